//! What the operating system says this process took: figures that owe nothing to the library's own accounts,
//! to hold a pipeline's status against.

pub use gogrid_host::{HostError, Resident, process_cpu_time, resident, thread_cpu_time};
