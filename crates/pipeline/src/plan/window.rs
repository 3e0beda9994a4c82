/// The least value in a window over ends that only moves back: a queue whose values rise from its
/// front, since a value with a later end and no less is never the least again.
pub(super) struct Window {
    items: Vec<(usize, f64)>,
    front: usize,
}

impl Window {
    pub(super) fn new(len: usize) -> Self {
        Self {
            items: Vec::with_capacity(len),
            front: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.front = 0;
    }

    /// Takes in the next earlier end.
    pub(super) fn push(&mut self, end: usize, value: f64) {
        if value == f64::INFINITY {
            return;
        }
        while self.items.len() > self.front && self.items[self.items.len() - 1].1 >= value {
            self.items.pop();
        }
        self.items.push((end, value));
    }

    /// The least value of ends up to `reach`, which must not rise from call to call; infinity when
    /// there is none.
    pub(super) fn least_up_to(&mut self, reach: usize) -> f64 {
        while let Some(&(end, value)) = self.items.get(self.front) {
            if end <= reach {
                return value;
            }
            self.front += 1;
        }
        f64::INFINITY
    }
}
