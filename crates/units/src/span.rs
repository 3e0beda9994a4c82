use std::fmt;

/// One of the pieces a decoder can be cut into. A model of `n` layers is `2 n + 2` pieces in this
/// order: the embedding, then a mixer and a feed-forward for each layer, then the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// Token ids to rows of the residual stream.
    Embedding,
    /// Norm, attention and its residual sum, of the layer with this index.
    Mixer(usize),
    /// Norm, feed-forward and its residual sum, of the layer with this index.
    FeedForward(usize),
    /// The last norm and the projection to logits.
    Head,
}

/// A run of consecutive pieces, by index: `start` is in, `end` is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first piece.
    pub start: usize,
    /// One past the last piece.
    pub end: usize,
}

impl Span {
    /// The span from piece `start` up to piece `end`, `end` excluded. `start <= end` is the
    /// caller's duty.
    pub const fn new(start: usize, end: usize) -> Self {
        assert!(start <= end, "a span ends at or after its start");
        Self { start, end }
    }

    /// All pieces of a model of `layers` layers.
    pub const fn whole_model(layers: usize) -> Self {
        Self::new(0, 2 * layers + 2)
    }

    /// How many pieces it has.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether it has no pieces.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The first `len` pieces, and the rest. `len <= self.len()` is the caller's duty.
    pub const fn split_at(self, len: usize) -> (Self, Self) {
        let middle = self.start + len;
        (Self::new(self.start, middle), Self::new(middle, self.end))
    }

    /// The pieces in order, for a model of `layers` layers.
    pub fn pieces(self, layers: usize) -> impl Iterator<Item = Piece> {
        (self.start..self.end).map(move |index| match index {
            0 => Piece::Embedding,
            i if i > 2 * layers => Piece::Head,
            i if i % 2 == 1 => Piece::Mixer(i / 2),
            i => Piece::FeedForward(i / 2 - 1),
        })
    }

    /// Whether it begins with the embedding, and so takes token ids.
    pub const fn has_embedding(self) -> bool {
        self.start == 0 && self.end > 0
    }

    /// Whether it ends with the head of a model of `layers` layers, and so gives logits.
    pub const fn has_head(self, layers: usize) -> bool {
        self.end == 2 * layers + 2 && self.start < self.end
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => write!(f, "the embedding"),
            Self::Mixer(layer) => write!(f, "the attention of layer {layer}"),
            Self::FeedForward(layer) => write!(f, "the feed-forward of layer {layer}"),
            Self::Head => write!(f, "the head"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pieces {}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_the_order_they_run() {
        let pieces: Vec<_> = Span::whole_model(2).pieces(2).collect();
        assert_eq!(
            pieces,
            [
                Piece::Embedding,
                Piece::Mixer(0),
                Piece::FeedForward(0),
                Piece::Mixer(1),
                Piece::FeedForward(1),
                Piece::Head
            ]
        );
    }

    #[test]
    fn only_the_ends_have_embedding_and_head() {
        let (front, back) = Span::whole_model(3).split_at(4);
        assert!(front.has_embedding() && !front.has_head(3));
        assert!(!back.has_embedding() && back.has_head(3));
        assert!(!Span::new(0, 0).has_embedding());
    }
}
