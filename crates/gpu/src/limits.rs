//! Every limit of this crate, in one place.

/// Bytes of immediate data that a kernel has. Vulkan promises as many.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;
/// Invocations of the largest workgroup.
pub(crate) const INVOCATIONS: u32 = 256;
/// Bytes that they share at most: two tiles of 64 rows by 32 columns.
pub(crate) const SHARED_BYTES: u32 = 16 << 10;
/// Buffers that a kernel binds at most.
pub(crate) const KERNEL_BUFFERS: u32 = 8;
/// Submissions that a device may have open over all its stages.
pub(crate) const SUBMISSIONS_OPEN_MAX: usize = 64;
/// The adapters that are looked at.
pub(crate) const ADAPTERS_MAX: usize = 16;

/// Nanoseconds that a dispatch may take while somebody is there.
pub(crate) const DISPATCH_NANOS: f64 = 1e6;
/// Nanoseconds that a submission may take while somebody is there.
pub(crate) const SUBMISSION_NANOS: f64 = 2e6;
/// Submissions of a stage that the device has at once.
pub(crate) const IN_FLIGHT: usize = 2;

/// Rows whose logits are held at once.
pub(crate) const HEAD_ROWS: usize = 16;
/// Rows that a mat-vec does at once; more are done by tiles.
pub(crate) const VECTOR_ROWS: usize = 8;
/// Rows that go through a feed-forward at once: its inside is wide.
pub(crate) const FEED_FORWARD_ROWS: usize = 128;

/// Slabs of keys and values that one attention dispatch can read.
pub(crate) const SLABS_BOUND: usize = 4;
/// Bytes of a slab of keys and values at most.
pub(crate) const SLAB_BYTES: u64 = 32 << 20;
/// The same where a block has more than an eighth of them.
pub(crate) const LARGE_SLAB_BYTES: u64 = 128 << 20;
/// Slots of a slab at most.
pub(crate) const SLAB_SLOTS_MAX: u64 = 64;
/// Parts that the tokens of one row's attention are shared out in.
pub(crate) const SPLITS_MAX: usize = 32;
/// Bytes of the parts' results.
pub(crate) const PARTIAL_BYTES: u64 = 4 << 20;

/// Bytes of weights that are made ready for an upload at once.
pub(crate) const UPLOAD_BYTES: u64 = 4 << 20;

/// Bytes of a copy that is measured, and how many there are of which the fastest counts.
pub(crate) const COPIED_BYTES: u64 = 64 << 20;
pub(crate) const COPIES: usize = 4;

const _: () = assert!(HEAD_ROWS.is_multiple_of(VECTOR_ROWS));
