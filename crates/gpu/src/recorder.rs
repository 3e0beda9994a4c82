//! The few things that a stage asks of a GPU's driver. A recorder is one open device with one queue.

#[cfg(test)]
pub(crate) mod faulty;
mod wgpu_recorder;

use std::time::Duration;

use gogrid_pipeline::StageError;
use gogrid_units::{Bytes, OutOfMemory};

pub(crate) use wgpu_recorder::{WgpuRecorder, built_in_interfaces, found_adapters};

/// An open device. Its methods may be called from several threads at once. Dropping a buffer may wait for
/// what the device does; nothing else waits for it. What is dropped while the device uses it is kept until it is done.
pub(crate) trait Recorder: Send + Sync + 'static {
    /// Memory of the device, or of the host for transfers. Dropping it gives it back to the driver.
    type Buffer: Send + Sync;
    /// A compiled kernel.
    type Pipeline: Send + Sync;
    /// A kernel's buffers.
    type Bindings: Send + Sync;

    /// What the device has.
    fn facts(&self) -> &Facts;

    /// A buffer of zeros.
    fn buffer(&self, bytes: u64, kind: BufferKind) -> Result<Self::Buffer, Failure>;

    /// Compiles a kernel.
    fn pipeline(&self, kernel: &KernelSource<'_>) -> Result<Self::Pipeline, Failure>;

    /// The buffers of a kernel, in the order of its bindings.
    fn bindings(
        &self,
        pipeline: &Self::Pipeline,
        buffers: &[BufferRange<'_, Self::Buffer>],
    ) -> Result<Self::Bindings, Failure>;

    /// Writes to the front of an upload buffer that no submission uses.
    fn fill(&self, upload: &Self::Buffer, bytes: &[u8]) -> Result<(), Failure>;

    /// Hands commands to the device, to be done in their order after all before them. `done` is called
    /// once, from any thread, when they are, or when the device is lost.
    fn submit(&self, submission: Submission<'_, Self>) -> Result<(), Failure>
    where
        Self: Sized;

    /// Reads what a submission that is done has copied to its readback buffer.
    fn read(&self, readback: &Self::Buffer, out: &mut [u8]) -> Result<(), Failure>;

    /// Why the device is lost, if it is.
    fn lost(&self) -> Option<String>;
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    /// Kernels read and write it.
    Device,
    /// The host writes it, commands copy from it.
    Upload,
    /// Commands copy to it, the host reads it.
    Readback,
}

/// A part of a buffer.
pub(crate) struct BufferRange<'a, B> {
    pub(crate) buffer: &'a B,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A kernel to be compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelSource<'a> {
    /// For messages.
    pub(crate) name: &'a str,
    /// WGSL with the entry point `main`.
    pub(crate) text: &'a str,
    /// For each binding from 0 on, whether the kernel writes it.
    pub(crate) written: &'a [bool],
    /// Bytes of its immediate data.
    pub(crate) immediate_bytes: u32,
}

/// Work for the device.
pub(crate) enum Command<'a, R: Recorder> {
    Dispatch {
        pipeline: &'a R::Pipeline,
        bindings: &'a R::Bindings,
        immediates: &'a [u8],
        groups: [u32; 3],
    },
    Copy {
        from: (&'a R::Buffer, u64),
        to: (&'a R::Buffer, u64),
        bytes: u64,
    },
}

/// Commands that go to the device together.
pub(crate) struct Submission<'a, R: Recorder> {
    pub(crate) commands: &'a [Command<'a, R>],
    /// The upload buffers that the commands copy from. They may be filled again when it is done.
    pub(crate) uploads: &'a [&'a R::Buffer],
    /// The readback buffer that the commands copy to.
    pub(crate) readback: Option<&'a R::Buffer>,
    pub(crate) done: Done,
}

/// Is told the nanoseconds that the device worked, where it can tell.
pub(crate) type Done = Box<dyn FnOnce(Result<Option<u64>, Failure>) + Send>;

/// What a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Name, for messages.
    pub(crate) name: String,
    /// The most bytes of a buffer that a kernel may have in one binding.
    pub(crate) binding_bytes_max: u64,
    /// Buffers that a kernel may have.
    pub(crate) buffers_max: u32,
    /// Bytes that the invocations of a workgroup may share.
    pub(crate) shared_bytes: u32,
    /// Invocations in a workgroup.
    pub(crate) invocations_max: u32,
    /// Workgroups along one axis of a dispatch.
    pub(crate) groups_max: u32,
    /// Whether invocations of a subgroup can add up among themselves.
    pub(crate) has_subgroups: bool,
    /// Whether the device tells how long it worked.
    pub(crate) has_timestamps: bool,
    /// Whether it is the processor that plays a GPU.
    pub(crate) is_software: bool,
}

/// What a driver could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The device is gone, with all that it held.
    #[error("{0}")]
    Lost(String),
    /// The driver has no memory for this.
    #[error("the driver has no memory for {0}")]
    OutOfMemory(Bytes),
    /// The driver refused what it was asked, or panicked.
    #[error("{0}")]
    Driver(String),
}

impl Failure {
    /// As the error of a stage on the device `name`.
    pub(crate) fn on(self, name: &str) -> StageError {
        match self {
            Self::Lost(problem) => StageError::Lost(format!("{name}: {problem}")),
            Self::OutOfMemory(asked) => StageError::OutOfMemory(OutOfMemory { asked }),
            Self::Driver(_) => StageError::Device(format!("{name}: {self}")),
        }
    }
}

/// How long a device may take over one submission before it counts as lost. Submissions are a few
/// milliseconds long; drivers give up by themselves after 2 to 10 s.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
