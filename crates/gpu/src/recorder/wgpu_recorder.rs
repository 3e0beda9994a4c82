//! A recorder on `wgpu`: Vulkan, Metal and DX12, by whatever driver is found at run time.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Instant;

use gogrid_units::{Bytes, Spawn, contain};

use super::{
    ANSWER_TIME_MAX, BufferKind, BufferRange, Command, Done, Facts, Failure, KernelSource,
    Recorder, Submission,
};
use crate::limits::{IMMEDIATE_BYTES, SUBMISSIONS_OPEN_MAX};

/// The interfaces that are used, each with its name.
const INTERFACES: [(wgpu::Backends, &str); 3] = [
    (wgpu::Backends::VULKAN, "Vulkan"),
    (wgpu::Backends::METAL, "Metal"),
    (wgpu::Backends::DX12, "DX12"),
];

/// The names of those of them that are there on this operating system.
pub(crate) fn built_in_interfaces() -> Vec<&'static str> {
    let built_in = wgpu::Instance::enabled_backend_features();
    let there = INTERFACES
        .into_iter()
        .filter(|(backend, _)| built_in.contains(*backend));
    there.map(|(_, name)| name).collect()
}

/// The adapters of this machine, with what is known of each.
pub(crate) fn found_adapters() -> Vec<wgpu::Adapter> {
    let found = contain(|| {
        let descriptor = wgpu::InstanceDescriptor {
            backends: INTERFACES.into_iter().map(|(backend, _)| backend).collect(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        let instance = wgpu::Instance::new(descriptor);
        at_once(instance.enumerate_adapters(wgpu::Backends::all()))
    });
    found.ok().flatten().unwrap_or_default()
}

/// The answer of a future that wgpu's native backends have ready at once.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct WgpuRecorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    facts: Facts,
    shared: Arc<Shared>,
    timers: Option<Timers>,
    waiter: Option<JoinHandle<()>>,
}

/// What the thread that waits for the device shares with the others.
#[derive(Default)]
struct Shared {
    open: Mutex<VecDeque<(wgpu::SubmissionIndex, Arc<Completion>)>>,
    changed: Condvar,
    is_closing: AtomicBool,
    lost: OnceLock<String>,
    /// When the device was done with a submission last.
    last_end: Mutex<Option<Instant>>,
}

/// Counts what a submission still waits for.
struct Completion {
    missing: AtomicUsize,
    nanos: Mutex<Option<u64>>,
    done: Mutex<Option<Done>>,
    submitted: Instant,
    shared: Weak<Shared>,
}

/// For devices that do not tell how long they worked.
#[expect(
    clippy::disallowed_methods,
    reason = "a driver reads its device's clock, or else the host's"
)]
fn now() -> Instant {
    Instant::now()
}

impl Completion {
    /// One thing less to wait for.
    fn arrived(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let measured = *lock(&self.nanos);
            let by_host = self.nanos_by_host();
            self.finish(Ok(measured.or(by_host)));
        }
    }

    /// The time since it was submitted, or since the one before it was done.
    fn nanos_by_host(&self) -> Option<u64> {
        let shared = self.shared.upgrade()?;
        let mut last_end = lock(&shared.last_end);
        let now = now();
        let begun = last_end.map_or(self.submitted, |end| end.max(self.submitted));
        *last_end = Some(now);
        u64::try_from(now.duration_since(begun).as_nanos()).ok()
    }

    fn finish(&self, result: Result<Option<u64>, Failure>) {
        let done = lock(&self.done).take();
        if let Some(done) = done {
            done(result);
        }
    }
}

impl WgpuRecorder {
    /// Opens a device, with a thread that waits for it.
    pub(crate) fn open(adapter: &wgpu::Adapter, spawn: &dyn Spawn) -> Result<Self, Failure> {
        let opened = contain(|| request_device(adapter)).map_err(Failure::Driver)?;
        let (device, queue) = opened?;
        let shared = Arc::new(Shared::default());
        let on_lost = Arc::downgrade(&shared);
        device.set_device_lost_callback(move |reason, message| {
            if let Some(shared) = on_lost.upgrade() {
                shared.lose(&format!("{reason:?}: {message}"));
            }
        });
        // Errors are taken up by the scopes around each call; this one only keeps others from ending
        // the process.
        let on_error = Arc::downgrade(&shared);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Some(shared) = on_error.upgrade() {
                shared.lose(&format!("an error outside of any call: {error}"));
            }
        }));
        let facts = facts(adapter, &device);
        let timers = facts.has_timestamps.then(|| Timers {
            spare: Arc::default(),
        });
        let waiter = start_waiter(&device, &shared, spawn).map_err(|error| {
            Failure::Driver(format!("no thread to wait for the device: {error}"))
        })?;
        Ok(Self {
            device,
            queue,
            facts,
            shared,
            timers,
            waiter: Some(waiter),
        })
    }

    /// Runs a call into the driver: its errors and panics are failures.
    fn call<T>(&self, what: &str, bytes: u64, work: impl FnOnce() -> T) -> Result<T, Failure> {
        if let Some(problem) = self.lost() {
            return Err(Failure::Lost(problem));
        }
        let ran = contain(|| {
            use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
            let scopes =
                [Validation, Internal, OutOfMemory].map(|kind| self.device.push_error_scope(kind));
            let given = work();
            let errors = scopes.into_iter().rev();
            let errors: Vec<_> = errors.map(|scope| at_once(scope.pop()).flatten()).collect();
            (given, errors.into_iter().flatten().next())
        });
        match ran {
            Ok((given, None)) => Ok(given),
            Ok((_, Some(wgpu::Error::OutOfMemory { .. }))) => {
                Err(Failure::OutOfMemory(Bytes(bytes)))
            }
            Ok((_, Some(error))) => Err(self.lost().map_or_else(
                || Failure::Driver(format!("{what}: {error}")),
                Failure::Lost,
            )),
            Err(panic) => Err(Failure::Driver(format!(
                "{what}: the driver panicked: {panic}"
            ))),
        }
    }

    /// Has the buffers of a submission that failed as they were before it.
    fn take_back(&self, uploads: &[&WgpuBuffer], readback: Option<&WgpuBuffer>) {
        let taken = self.call("buffers of a failed submission", 0, || {
            for upload in uploads {
                upload.0.map_async(wgpu::MapMode::Write, .., |_| ());
            }
            if let Some(readback) = readback {
                readback.0.unmap();
            }
            self.device.poll(wgpu::PollType::Poll)
        });
        // What failed before has been told; a buffer that is not there fails its next use.
        let _ = taken;
    }

    fn encode(&self, commands: &[Command<'_, Self>], timer: Option<&Timer>) -> wgpu::CommandBuffer {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        if let Some(timer) = timer {
            encoder.write_timestamp(&timer.queries, 0);
        }
        let mut commands = commands.iter().peekable();
        while let Some(command) = commands.next() {
            match command {
                Command::Copy { from, to, bytes } => {
                    let (from, to) = ((&from.0.0, from.1), (&to.0.0, to.1));
                    encoder.copy_buffer_to_buffer(from.0, from.1, to.0, to.1, *bytes);
                }
                Command::Dispatch { .. } => {
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    dispatch(&mut pass, command);
                    while let Some(next) =
                        commands.next_if(|c| matches!(c, Command::Dispatch { .. }))
                    {
                        dispatch(&mut pass, next);
                    }
                }
            }
        }
        if let Some(timer) = timer {
            encoder.write_timestamp(&timer.queries, 1);
            encoder.resolve_query_set(&timer.queries, 0..2, &timer.resolved, 0);
            encoder.copy_buffer_to_buffer(&timer.resolved, 0, &timer.readback, 0, TIMER_BYTES);
        }
        encoder.finish()
    }

    /// Asks for the buffers of a submission to be the host's again, each of which counts as arrived then.
    fn map(
        &self,
        (uploads, readback): (&[&WgpuBuffer], Option<&WgpuBuffer>),
        timer: Option<Timer>,
        completion: &Arc<Completion>,
    ) {
        let arrived = |completion: &Arc<Completion>| {
            let completion = Arc::clone(completion);
            move |_mapped: Result<(), wgpu::BufferAsyncError>| completion.arrived()
        };
        for upload in uploads {
            upload
                .0
                .map_async(wgpu::MapMode::Write, .., arrived(completion));
        }
        if let Some(readback) = readback {
            readback
                .0
                .map_async(wgpu::MapMode::Read, .., arrived(completion));
        }
        if let (Some(timer), Some(timers)) = (timer, &self.timers) {
            let (completion, timers) = (Arc::clone(completion), Arc::downgrade(&timers.spare));
            let (period, buffer) = (self.queue.get_timestamp_period(), timer.readback.clone());
            buffer.map_async(wgpu::MapMode::Read, .., move |mapped| {
                if mapped.is_ok() {
                    *lock(&completion.nanos) = timer.take(period);
                    if let Some(spare) = Weak::upgrade(&timers) {
                        lock(&spare).push(timer);
                    }
                }
                completion.arrived();
            });
        }
        let completion = Arc::clone(completion);
        self.queue
            .on_submitted_work_done(move || completion.arrived());
    }
}

fn dispatch(pass: &mut wgpu::ComputePass<'_>, command: &Command<'_, WgpuRecorder>) {
    let Command::Dispatch {
        pipeline,
        bindings,
        immediates,
        groups: [x, y, z],
    } = command
    else {
        return;
    };
    pass.set_pipeline(&pipeline.pipeline);
    pass.set_bind_group(0, &**bindings, &[]);
    pass.set_immediates(0, immediates);
    pass.dispatch_workgroups(*x, *y, *z);
}

impl Drop for WgpuRecorder {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Release);
        drop(lock(&self.shared.open));
        self.shared.changed.notify_all();
        if let Some(waiter) = self.waiter.take() {
            // Its panic is contained; there is nothing to be told.
            let _ = waiter.join();
        }
    }
}

/// A buffer whose memory goes back to the driver when it is dropped, without waiting for a poll.
pub(crate) struct WgpuBuffer(wgpu::Buffer);

impl Drop for WgpuBuffer {
    fn drop(&mut self) {
        // A panic of the driver's must not become one in a drop.
        let _ = contain(|| self.0.destroy());
    }
}

pub(crate) struct WgpuPipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Recorder for WgpuRecorder {
    type Buffer = WgpuBuffer;
    type Pipeline = WgpuPipeline;
    type Bindings = wgpu::BindGroup;

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn buffer(&self, bytes: u64, kind: BufferKind) -> Result<WgpuBuffer, Failure> {
        use wgpu::BufferUsages as U;
        let usage = match kind {
            BufferKind::Device => U::STORAGE | U::COPY_SRC | U::COPY_DST,
            BufferKind::Upload => U::MAP_WRITE | U::COPY_SRC,
            BufferKind::Readback => U::MAP_READ | U::COPY_DST,
        };
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: kind == BufferKind::Upload,
        };
        let create = || WgpuBuffer(self.device.create_buffer(&descriptor));
        self.call("a buffer", bytes, create)
    }

    fn pipeline(&self, kernel: &KernelSource<'_>) -> Result<WgpuPipeline, Failure> {
        self.call(kernel.name, 0, || {
            let source = wgpu::ShaderSource::Wgsl(kernel.text.into());
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(kernel.name),
                source,
            };
            let module = self.device.create_shader_module(descriptor);
            let entries: Vec<_> = (0..).zip(kernel.written).map(layout_entry).collect();
            let layout = wgpu::BindGroupLayoutDescriptor {
                label: Some(kernel.name),
                entries: &entries,
            };
            let layout = self.device.create_bind_group_layout(&layout);
            let pipeline_layout = wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: kernel.immediate_bytes,
            };
            let pipeline_layout = self.device.create_pipeline_layout(&pipeline_layout);
            let descriptor = wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            };
            let pipeline = self.device.create_compute_pipeline(&descriptor);
            WgpuPipeline { pipeline, layout }
        })
    }

    fn bindings(
        &self,
        pipeline: &WgpuPipeline,
        buffers: &[BufferRange<'_, WgpuBuffer>],
    ) -> Result<wgpu::BindGroup, Failure> {
        let entries: Vec<_> = (0..).zip(buffers).map(entry_of).collect();
        let descriptor = wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        };
        self.call("a kernel's buffers", 0, || {
            self.device.create_bind_group(&descriptor)
        })
    }

    fn fill(&self, upload: &WgpuBuffer, bytes: &[u8]) -> Result<(), Failure> {
        self.call("a write", 0, || {
            let range = 0..bytes.len() as u64;
            let mapped = upload.0.get_mapped_range_mut(range);
            let mapped = mapped.map(|mut view| view.copy_from_slice(bytes));
            upload.0.unmap();
            mapped.map_err(|error| Failure::Driver(format!("a write: {error}")))
        })?
    }

    fn submit(&self, submission: Submission<'_, Self>) -> Result<(), Failure> {
        let Submission {
            commands,
            uploads,
            readback,
            done,
        } = submission;
        if self.shared.count_open() >= SUBMISSIONS_OPEN_MAX {
            let problem = format!("{SUBMISSIONS_OPEN_MAX} submissions are open");
            return Err(Failure::Driver(problem));
        }
        let is_timed = self.timers.is_some();
        let buffers = uploads.len() + usize::from(readback.is_some());
        let completion = Arc::new(Completion {
            missing: AtomicUsize::new(1 + buffers + usize::from(is_timed)),
            nanos: Mutex::new(None),
            done: Mutex::new(Some(done)),
            submitted: now(),
            shared: Arc::downgrade(&self.shared),
        });
        let index = self.call("a submission", 0, || {
            let timer = self.timers.as_ref().map(|timers| timers.get(&self.device));
            let commands = self.encode(commands, timer.as_ref());
            let index = self.queue.submit([commands]);
            self.map((uploads, readback), timer, &completion);
            index
        });
        match index {
            Ok(index) => {
                lock(&self.shared.open).push_back((index, completion));
                self.shared.changed.notify_all();
                Ok(())
            }
            Err(failure) => {
                self.take_back(uploads, readback);
                // Told once: by the error, unless it was told before.
                lock(&completion.done)
                    .take()
                    .map_or(Ok(()), |_| Err(failure))
            }
        }
    }

    fn read(&self, readback: &WgpuBuffer, out: &mut [u8]) -> Result<(), Failure> {
        self.call("a read", 0, || {
            let mapped = readback.0.get_mapped_range(0..out.len() as u64);
            let mapped = mapped.map(|view| out.copy_from_slice(&view));
            readback.0.unmap();
            mapped.map_err(|error| Failure::Driver(format!("a read: {error}")))
        })?
    }

    fn lost(&self) -> Option<String> {
        self.shared.lost.get().cloned()
    }
}

fn entry_of<'a>((binding, range): (u32, &BufferRange<'a, WgpuBuffer>)) -> wgpu::BindGroupEntry<'a> {
    wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &range.buffer.0,
            offset: range.offset,
            size: std::num::NonZeroU64::new(range.bytes),
        }),
    }
}

fn layout_entry((binding, &written): (u32, &bool)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage {
                read_only: !written,
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

/// A device with what kernels need and can use, and with the greatest limits of its adapter.
fn request_device(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), Failure> {
    use wgpu::Features as F;
    let has = adapter.features();
    if !has.contains(F::IMMEDIATES) {
        let problem = "not supported: the adapter has no immediate data (push constants)";
        return Err(Failure::Driver(problem.to_owned()));
    }
    let useful =
        F::IMMEDIATES | F::SUBGROUP | F::TIMESTAMP_QUERY | F::TIMESTAMP_QUERY_INSIDE_ENCODERS;
    let limits = wgpu::Limits {
        max_immediate_size: IMMEDIATE_BYTES,
        ..adapter.limits()
    };
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("gogrid"),
        required_features: has & useful,
        required_limits: limits,
        // Small blocks: what is freed goes back to the driver.
        memory_hints: wgpu::MemoryHints::Manual {
            suballocated_device_memory_block_size: 4 << 20..(4 << 20) + 1,
        },
        ..Default::default()
    };
    let opened = at_once(adapter.request_device(&descriptor));
    let opened = opened.ok_or_else(|| Failure::Driver("the driver does not answer".to_owned()))?;
    opened.map_err(|error| Failure::Driver(error.to_string()))
}

fn facts(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Facts {
    use wgpu::Features as F;
    let (info, limits, has) = (adapter.get_info(), device.limits(), device.features());
    Facts {
        name: info.name,
        binding_bytes_max: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        buffers_max: limits.max_storage_buffers_per_shader_stage,
        shared_bytes: limits.max_compute_workgroup_storage_size,
        invocations_max: limits.max_compute_invocations_per_workgroup,
        groups_max: limits.max_compute_workgroups_per_dimension,
        has_subgroups: has.contains(F::SUBGROUP),
        has_timestamps: has.contains(F::TIMESTAMP_QUERY | F::TIMESTAMP_QUERY_INSIDE_ENCODERS),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
    }
}

/// Two timestamps of 64 bits.
const TIMER_BYTES: u64 = 16;

/// The timers that no submission uses.
struct Timers {
    spare: Arc<Mutex<Vec<Timer>>>,
}

/// Measures one submission.
struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: wgpu::Buffer,
}

impl Timers {
    fn get(&self, device: &wgpu::Device) -> Timer {
        let spare = lock(&self.spare).pop();
        spare.unwrap_or_else(|| Timer::new(device))
    }
}

impl Timer {
    fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages as U;
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: TIMER_BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(U::QUERY_RESOLVE | U::COPY_SRC),
            readback: buffer(U::COPY_DST | U::MAP_READ),
        }
    }

    /// Nanoseconds between its timestamps, from its mapped buffer.
    fn take(&self, period: f32) -> Option<u64> {
        let view = self.readback.get_mapped_range(..).ok()?;
        let at = |i: usize| {
            view[8 * i..8 * i + 8]
                .try_into()
                .map(u64::from_le_bytes)
                .ok()
        };
        let ticks = at(1)?.checked_sub(at(0)?);
        drop(view);
        self.readback.unmap();
        // A time of milliseconds fits.
        ticks.map(|ticks| (ticks as f64 * f64::from(period)) as u64)
    }
}

/// Starts the thread that waits for submissions in their order. Completions are called on it.
fn start_waiter(
    device: &wgpu::Device,
    shared: &Arc<Shared>,
    spawn: &dyn Spawn,
) -> io::Result<JoinHandle<()>> {
    let (device, shared) = (device.clone(), Arc::clone(shared));
    let wait = move || {
        while let Some((index, completion)) = shared.next() {
            if contain(|| shared.wait_for(&device, index)).is_err() {
                shared.lose("the driver panicked while it was waited for");
            }
            if let Some(problem) = shared.lost.get() {
                completion.finish(Err(Failure::Lost(problem.clone())));
            }
        }
    };
    spawn.spawn("gpu waiter", Box::new(wait))
}

impl Shared {
    /// The oldest open submission, once there is one; none when the device is closed.
    fn next(&self) -> Option<(wgpu::SubmissionIndex, Arc<Completion>)> {
        let mut open = lock(&self.open);
        loop {
            if let Some(oldest) = open.pop_front() {
                return Some(oldest);
            }
            if self.is_closing.load(Ordering::Acquire) {
                return None;
            }
            let woken = self.changed.wait(open);
            open = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Submissions that are not done. The driver may tell of those that are in any call, before the thread
    /// that waits comes to them.
    fn count_open(&self) -> usize {
        let mut open = lock(&self.open);
        open.retain(|(_, completion)| completion.missing.load(Ordering::Acquire) > 0);
        open.len()
    }

    /// Waits for a submission; a device that does not answer for long is lost. One long wait, not several
    /// short ones: after a wait that timed out, `wgpu` 30 panics where another thread saw the queue empty
    /// meanwhile.
    fn wait_for(&self, device: &wgpu::Device, index: wgpu::SubmissionIndex) {
        let poll = wgpu::PollType::Wait {
            submission_index: Some(index),
            timeout: Some(ANSWER_TIME_MAX),
        };
        match device.poll(poll) {
            Ok(_) => {}
            Err(wgpu::PollError::Timeout) => {
                self.lose(&format!("no answer for {} s", ANSWER_TIME_MAX.as_secs()));
            }
            Err(error) => self.lose(&error.to_string()),
        }
    }

    /// The device is lost: nothing that it has will be done.
    fn lose(&self, problem: &str) {
        // The first reason counts.
        let _ = self.lost.set(problem.to_owned());
        let open = std::mem::take(&mut *lock(&self.open));
        for (_, completion) in open {
            let problem = self.lost.get().map_or(problem, String::as_str);
            completion.finish(Err(Failure::Lost(problem.to_owned())));
        }
    }
}
