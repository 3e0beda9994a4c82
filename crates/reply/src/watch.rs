/// Looks for markers in a text, and holds back only what may still become one.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The beginning of a marker.
    held: String,
}

impl Watch {
    /// Takes in a character. Text that is part of no marker is appended to `free`; of the markers,
    /// none of which begins another, the one that is complete is given back.
    pub(crate) fn push(
        &mut self,
        char: char,
        markers: &[&'static str],
        free: &mut String,
    ) -> Option<&'static str> {
        self.held.push(char);
        loop {
            if let Some(marker) = markers.iter().find(|marker| **marker == self.held) {
                self.held.clear();
                return Some(marker);
            }
            // True of nothing held too.
            let begins = |marker: &&str| marker.starts_with(self.held.as_str());
            if self.held.is_empty() || markers.iter().any(begins) {
                return None;
            }
            free.push(self.held.remove(0));
        }
    }

    /// What is held, which becomes no marker any more.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_become_a_marker_is_held() {
        let mut watch = Watch::default();
        let mut shown = Vec::new();
        for char in "a<<ab<abc>>".chars() {
            let mut free = String::new();
            let marker = watch.push(char, &["<abc>", "<b>"], &mut free);
            shown.push((free, marker));
        }
        let of = |free: &str| (free.to_owned(), None);
        let mut expected = ["a", "", "<", "", "", "<ab", "", "", ""].map(of).to_vec();
        expected.push((String::new(), Some("<abc>")));
        expected.push(of(">"));
        assert_eq!(shown, expected);
        assert_eq!(watch.take(), "");
    }
}
