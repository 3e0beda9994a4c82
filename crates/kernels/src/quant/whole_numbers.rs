use gogrid_units::WeightType;

use super::{Block, Format, Levels, ScaleOf};

/// A block whose codes are looked up, for devices that multiply numbers: value i of it is half × part ×
/// `scales[i / 16]` × `values[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeNumbers {
    /// The values, as many as the block has.
    pub values: [i8; 256],
    /// Of each 16 values. Ones in blocks of 32.
    pub scales: [i8; 16],
    /// The bits of the block's scale: an f16, in `mxfp4` a bf16.
    pub half: u16,
}

impl WholeNumbers {
    /// Takes apart one block as a GGUF file holds it, of a type that has a [`part`](Self::part).
    ///
    /// # Panics
    /// When there are not the bytes of one block of a type with a code-book.
    pub fn of(ty: WeightType, stored: &[u8]) -> Self {
        let block = Block::read(ty, stored);
        let format = Format::of(ty);
        let Some((format, Levels::Book(book))) = format.map(|format| (format, format.levels))
        else {
            panic!("{ty} has no code-book");
        };
        let scales = match format.scale_of {
            ScaleOf::Block => [1; 16],
            ScaleOf::Group(len) => std::array::from_fn(|i| block.scales[16 * i / len]),
        };
        Self {
            values: block.values.map(|code| book.values[usize::from(code)]),
            scales,
            half: block.d,
        }
    }

    /// The part of a block's half that its values are multiples of; `None` for types without a
    /// code-book.
    pub const fn part(ty: WeightType) -> Option<f32> {
        match Format::of(ty) {
            Some(Format {
                levels: Levels::Book(book),
                ..
            }) => Some(book.part()),
            _ => None,
        }
    }
}
