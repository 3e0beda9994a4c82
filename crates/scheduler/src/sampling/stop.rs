/// Watches text for stop strings, across the boundaries of what it is given: holds back what may
/// yet become one.
#[derive(Debug, Default)]
pub(crate) struct StopWatch {
    stops: Vec<String>,
    held: String,
}

impl StopWatch {
    /// Watches for `stops`, none of which is empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes text in. Gives the text that is certain, and whether a stop string was met: the one
    /// that is complete first, and of those the longest. The text then ends before it.
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (text.to_owned(), false);
        }
        self.held.push_str(text);
        let met = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = met.min() {
            self.held.truncate(start);
            return (self.finish(), true);
        }
        let kept = self.held.split_off(self.held.len() - self.doubtful());
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// What was held back, when nothing follows.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of the longest end of the held text that begins a stop string.
    fn doubtful(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let begins = |start: &usize| {
            let end = &self.held[*start..];
            self.stops.iter().any(|stop| stop.starts_with(end))
        };
        let starts = self.held.char_indices().map(|(start, _)| start);
        let near = starts
            .rev()
            .take_while(|start| self.held.len() - start < longest);
        let longest_end = near.filter(begins).min();
        longest_end.map_or(0, |start| self.held.len() - start)
    }
}
