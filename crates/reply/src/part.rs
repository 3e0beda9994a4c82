/// A part of a reply, in the order in which the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the model thinks before it answers. Never empty.
    Reasoning(String),
    /// The answer. Never empty.
    Text(String),
    /// A call begins.
    CallBegin {
        /// Which call of the reply, from 0.
        index: usize,
        /// The tool. Never empty.
        name: String,
    },
    /// More of a call's arguments.
    CallArguments {
        /// Which call.
        index: usize,
        /// A piece of a JSON object, as the model wrote it. Never empty.
        json: String,
    },
    /// A call ends: its arguments are complete, or the model's text has ended.
    CallEnd {
        /// Which call.
        index: usize,
    },
}

/// Parts under way. Neighbours of one kind are one part.
#[derive(Debug, Default)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    pub(crate) fn reasoning(&mut self, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Reasoning(text)) => text.push_str(more),
            _ => self.0.push(Part::Reasoning(more.to_owned())),
        }
    }

    pub(crate) fn text(&mut self, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Text(text)) => text.push_str(more),
            _ => self.0.push(Part::Text(more.to_owned())),
        }
    }

    pub(crate) fn begin(&mut self, index: usize, name: String) {
        self.0.push(Part::CallBegin { index, name });
    }

    /// `more` is not empty.
    pub(crate) fn arguments(&mut self, index: usize, more: &str) {
        match self.0.last_mut() {
            Some(Part::CallArguments { json, .. }) => json.push_str(more),
            _ => self.0.push(Part::CallArguments {
                index,
                json: more.to_owned(),
            }),
        }
    }

    pub(crate) fn end(&mut self, index: usize) {
        self.0.push(Part::CallEnd { index });
    }

    pub(crate) fn into_vec(self) -> Vec<Part> {
        self.0
    }
}
