//! Stand-ins for clocks, paces and devices, for simulations that must come out the same each time.

mod accelerator;
mod backend;
mod clock;
mod model;
mod pace;
mod runner;
mod stage;

pub use self::accelerator::{AcceleratorHandle, AcceleratorScript, FakeAccelerator, RealTime};
pub use self::backend::FakeBackend;
pub use self::clock::ManualClock;
pub use self::model::FakeModel;
pub use self::pace::PaceScript;
pub use self::runner::FakeRunner;
pub use self::stage::{FakeStage, Faults};
