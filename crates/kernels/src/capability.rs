//! What the kernels can do, in one table. Who opens or plans a model holds its shapes against it
//! first, so that no shape from a file meets an assert.

use std::fmt;

use gogrid_units::WeightType;

use crate::quant::Format;
use crate::simd::Isa;

/// The widest head. Narrower ones may have any even width.
pub const HEAD_DIM_MAX: usize = 512;
/// Values of one row of the residual stream, of a feed-forward's inside, or of all query heads: norms,
/// biases, embeddings and turned heads do a row in one go, which takes 0.5 ms at this width.
pub const ROW_MAX: usize = 125_000;
/// Values of all keys of one position, which are written in one go.
pub const KEYS_MAX: usize = 50_000;
/// The greatest key or value that the cache's halves can hold.
pub const KV_MAX: f32 = 65_504.0;
/// Columns of a quantised matrix: one row by 16 rows of it is the least that is done in one go.
pub const COLUMNS_MAX: usize = 58_000;
/// The same where products are done value by value.
pub const SCALAR_COLUMNS_MAX: usize = 31_250;

/// A shape that the kernels cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Beyond {
    what: &'static str,
    found: usize,
    allowed: Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    UpTo(usize),
    EvenUpTo(usize),
    MultiplesOf(usize),
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, .. } = self;
        write!(f, "{what} of {found}; supported: ")?;
        match self.allowed {
            Allowed::UpTo(most) => write!(f, "1 to {most}"),
            Allowed::EvenUpTo(most) => write!(f, "even ones, 2 to {most}"),
            Allowed::MultiplesOf(divisor) => write!(f, "multiples of {divisor}"),
        }
    }
}

/// One layer's attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Pairs of a head that turn; none, where nothing does.
    pub pairs: usize,
    /// Positions a query sees, or all.
    pub window: Option<usize>,
}

/// Whether attention of this shape can be done.
///
/// # Errors
/// Names the first extent that is outside the table.
pub fn attention(shape: &AttentionShape) -> Result<(), Beyond> {
    let AttentionShape {
        heads,
        kv_heads,
        head_dim: width,
        pairs,
        window,
    } = *shape;
    head_dim(width)?;
    if pairs > 0 {
        up_to("rotated pairs", pairs, width / 2)?;
    }
    up_to("a window", window.unwrap_or(1), usize::MAX)?;
    up_to("key and value heads", kv_heads, KEYS_MAX / width)?;
    up_to("query heads", heads, ROW_MAX / width)?;
    match heads.is_multiple_of(kv_heads) {
        true => Ok(()),
        false => Err(Beyond {
            what: "query heads",
            found: heads,
            allowed: Allowed::MultiplesOf(kv_heads),
        }),
    }
}

/// Whether heads can have this width.
pub(crate) fn head_dim(width: usize) -> Result<(), Beyond> {
    match width.is_multiple_of(2) && (2..=HEAD_DIM_MAX).contains(&width) {
        true => Ok(()),
        false => Err(Beyond {
            what: "a head's width",
            found: width,
            allowed: Allowed::EvenUpTo(HEAD_DIM_MAX),
        }),
    }
}

/// Whether rows can have this width.
///
/// # Errors
/// With the limit.
pub fn row(width: usize) -> Result<(), Beyond> {
    up_to("a row", width, ROW_MAX)
}

/// Whether a matrix kept as `ty` can have this many columns.
///
/// # Errors
/// With the limit of the instruction set.
pub fn columns(isa: Isa, ty: WeightType, cols: usize) -> Result<(), Beyond> {
    let most = match (Format::of(ty), isa) {
        // Float products stop within a row.
        (None, _) => usize::MAX,
        (Some(_), Isa::Scalar) => SCALAR_COLUMNS_MAX,
        (Some(_), _) => COLUMNS_MAX,
    };
    up_to("a matrix's columns", cols, most)
}

fn up_to(what: &'static str, found: usize, most: usize) -> Result<(), Beyond> {
    match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(Beyond {
            what,
            found,
            allowed: Allowed::UpTo(most),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: AttentionShape = AttentionShape {
        heads: 8,
        kv_heads: 2,
        head_dim: 100,
        pairs: 50,
        window: None,
    };

    #[test]
    fn a_shape_outside_the_table_is_named() {
        assert_eq!(attention(&SHAPE), Ok(()));
        let refused = |shape: AttentionShape| attention(&shape).unwrap_err().to_string();
        let odd = refused(AttentionShape {
            head_dim: 101,
            ..SHAPE
        });
        assert_eq!(odd, "a head's width of 101; supported: even ones, 2 to 512");
        let wide = refused(AttentionShape {
            head_dim: 514,
            ..SHAPE
        });
        assert!(wide.contains("514"), "{wide}");
        let heads = refused(AttentionShape { heads: 9, ..SHAPE });
        assert_eq!(heads, "query heads of 9; supported: multiples of 2");
        let none = refused(AttentionShape {
            kv_heads: 0,
            ..SHAPE
        });
        assert_eq!(none, "key and value heads of 0; supported: 1 to 500");
        let pairs = refused(AttentionShape { pairs: 51, ..SHAPE });
        assert_eq!(pairs, "rotated pairs of 51; supported: 1 to 50");
        assert!(row(ROW_MAX).is_ok() && row(ROW_MAX + 1).is_err());
        assert!(columns(Isa::Scalar, WeightType::Q4K, SCALAR_COLUMNS_MAX + 1).is_err());
        assert!(columns(Isa::Scalar, WeightType::F16, SCALAR_COLUMNS_MAX + 1).is_ok());
    }
}
