//! The words every GoGrid crate shares, and arithmetic that cannot mix them.
//!
//! ```
//! use gogrid_units::{Bytes, Piece, Span};
//!
//! // A model of two layers is six pieces: embedding, four half-layers, head.
//! let whole = Span::whole_model(2);
//! let (front, back) = whole.split_at(3);
//! assert_eq!(front.pieces(2).last(), Some(Piece::FeedForward(0)));
//! assert_eq!(back.pieces(2).last(), Some(Piece::Head));
//! assert_eq!(Bytes::mib(2).to_string(), "2.0 MiB");
//! ```

#![forbid(unsafe_code)]

mod bytes;
mod contain;
pub mod grids;
mod moment;
mod out_of_memory;
mod pace;
mod span;
mod sparing;
mod spawn;
mod thread_loop;
mod weight_type;
mod whose;

pub use bytes::Bytes;
pub use contain::contain;
pub use moment::Moment;
pub use out_of_memory::OutOfMemory;
pub use pace::{FullSpeed, Go, Pace, TeamPace, Work};
pub use span::{Piece, Span};
pub use sparing::Sparing;
pub use spawn::{PlainThreads, Spawn, ThreadBody, hand_over, system_name};
pub use thread_loop::{LoopEnd, Renewal, ThreadLoop, start_loop};
pub use weight_type::WeightType;
pub use whose::{Each, Whose};
