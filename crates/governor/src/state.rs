use std::time::Duration;

use gogrid_units::Moment;

use crate::hysteresis::{Latch, Signal, Smooth, Smoothing};
use crate::{LoadRule, MemoryRule, Observation, Policy, Reason, TemperatureRule};

/// For how long an exclusive application must be gone, and a full screen left: a player who
/// changes from one game to the next is not done.
pub(crate) const GONE_AFTER_S: u32 = 5;

/// Room is made for others fast, and taken back slowly.
const OF_LOAD: Smoothing = Smoothing {
    rise: Duration::from_millis(500),
    fall: Duration::from_secs(2),
    skips_first: true,
};

/// A core's boost takes the hottest sensor up twenty degrees for a moment; that is not heat.
const OF_TEMPERATURE: Smoothing = Smoothing {
    rise: Duration::from_secs(3),
    fall: Duration::from_secs(3),
    skips_first: false,
};

/// Others must use so much less than the load that made us yield before we stop yielding.
const LOAD_BAND: f64 = 0.05;

/// And it must be so many degrees cooler than where the limit began.
const TEMPERATURE_BAND_C: f64 = 3.0;

/// A limit is at most this part of the cap, so that it can be told from none.
pub(crate) const LIMITED_MAX: f64 = 0.95;

/// A hot machine takes at least this part of the cap until it stops.
const HOT_MIN: f64 = 0.05;

/// A share may be so far out of 0..=1 by the way it is measured.
const SHARE_ERROR: f64 = 0.05;

/// The range that sensors of working machines show, in degrees Celsius.
const TEMPERATURES_C: std::ops::RangeInclusive<f64> = -40.0..=125.0;

/// The demand of one rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    Nothing,
    AtMost(f64, Reason),
    Stop(Reason),
}

impl Ask {
    /// What a demand of presence or others' load is to the owner's own requests: they give way until they
    /// have the share `least`, and are not stopped. A full screen is the owner's own.
    pub(crate) fn of_owner(&self, least: f64) -> Self {
        match self {
            Self::Nothing
            | Self::AtMost(_, Reason::FullScreen)
            | Self::Stop(Reason::FullScreen) => Self::Nothing,
            Self::AtMost(share, reason) => Self::AtMost(share.max(least), reason.clone()),
            Self::Stop(reason) => Self::AtMost(least, reason.clone()),
        }
    }
}

/// The figures that all demands are worked out from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) now: Moment,
    pub(crate) policy: &'a Policy,
    pub(crate) observation: &'a Observation,
    /// The profile's, in 0..=1.
    pub(crate) cap: f64,
}

/// A share that was told and means something.
fn known_share(told: Option<f64>) -> Option<f64> {
    let known = |share: &f64| (-SHARE_ERROR..=1.0 + SHARE_ERROR).contains(share);
    told.filter(known).map(|share| share.clamp(0.0, 1.0))
}

/// Everything that is kept from one observation to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    cpu: Load,
    gpu: Load,
    available: Gauge,
    pressure: Gauge,
    full_screen: Latch,
    exclusive: Exclusive,
    on_battery: Latch,
    charge: Gauge,
    heat: Heat,
}

impl State {
    /// The demands that hold whether or not others' load is heeded, in the order of [`Reason`].
    pub(crate) fn machine_asks(&mut self, look: &Look<'_>) -> Vec<Ask> {
        vec![
            schedule_asks(look),
            self.exclusive.asks(look),
            self.battery_asks(look),
            self.charge_asks(look),
            self.heat.asks(look),
        ]
    }

    /// The demands of presence and others' load, in the order of [`Reason`].
    pub(crate) fn load_asks(&mut self, look: &Look<'_>) -> Vec<Ask> {
        let Observation {
            others_cpu,
            others_gpu,
            ..
        } = *look.observation;
        let (cpu_rule, gpu_rule) = (&look.policy.others_cpu, &look.policy.others_gpu);
        let (cpu, gpu) = (known_share(others_cpu), known_share(others_gpu));
        vec![
            self.available_asks(look),
            self.pressure_asks(look),
            self.cpu
                .asks(look, cpu_rule, cpu)
                .because(|others| Reason::OthersCpu { others }),
            self.gpu
                .asks(look, gpu_rule, gpu)
                .because(|others| Reason::OthersGpu { others }),
            self.full_screen_asks(look),
        ]
    }

    /// Forgets the holds for presence and others' load, which are not heeded.
    pub(crate) fn forget_load(&mut self) {
        self.cpu = Load::default();
        self.gpu = Load::default();
        self.available = Gauge::default();
        self.pressure = Gauge::default();
        self.full_screen = Latch::default();
    }

    /// Ends every hold: each rule is looked at afresh. Smoothed figures stay.
    pub(crate) fn release(&mut self) {
        *self = Self {
            cpu: self.cpu.released(),
            gpu: self.gpu.released(),
            heat: self.heat.released(),
            ..Self::default()
        };
    }

    /// The first moment at which a hold ends, if all stays well.
    pub(crate) fn next_end(&self) -> Option<Moment> {
        let latches = [
            &self.cpu.yields,
            &self.cpu.stopped,
            &self.gpu.yields,
            &self.gpu.stopped,
            &self.available.latch,
            &self.pressure.latch,
            &self.full_screen,
            &self.exclusive.latch,
            &self.on_battery,
            &self.charge.latch,
            &self.heat.limited,
            &self.heat.stopped,
        ];
        latches.into_iter().filter_map(Latch::ends).min()
    }

    fn battery_asks(&mut self, look: &Look<'_>) -> Ask {
        let rule = &look.policy.battery;
        let discharging = look.observation.battery.is_some_and(|b| b.discharging);
        let signal = Signal::plain(discharging);
        match self
            .on_battery
            .update(look.now, signal, rule.resume_after_s)
        {
            true if rule.share_max > 0.0 => Ask::AtMost(rule.share_max, Reason::Battery),
            true => Ask::Stop(Reason::Battery),
            false => Ask::Nothing,
        }
    }

    fn charge_asks(&mut self, look: &Look<'_>) -> Ask {
        let rule = &look.policy.battery;
        let battery = look.observation.battery;
        let discharging = battery.is_some_and(|b| b.discharging);
        let charge = known_share(battery.map(|b| b.charge));
        self.charge.latch.update(
            look.now,
            Signal {
                trouble: discharging && charge.is_some_and(|c| c < rule.charge_min),
                well: !discharging || charge.is_none_or(|c| c >= rule.resume_charge),
            },
            rule.resume_after_s,
        );
        self.charge.stop(charge, |charge| Reason::Charge {
            charge,
            resume_charge: rule.resume_charge,
        })
    }

    fn available_asks(&mut self, look: &Look<'_>) -> Ask {
        let &MemoryRule {
            available_min,
            resume_available,
            resume_after_s,
            ..
        } = &look.policy.memory;
        let available = known_share(look.observation.memory_available);
        let signal = Signal {
            trouble: available.is_some_and(|a| a < available_min),
            well: available.is_none_or(|a| a >= resume_available),
        };
        self.available
            .latch
            .update(look.now, signal, resume_after_s);
        self.available
            .stop(available, |available| Reason::MemoryAvailable {
                available,
                resume_available,
            })
    }

    fn pressure_asks(&mut self, look: &Look<'_>) -> Ask {
        let &MemoryRule {
            pressure_max,
            resume_pressure,
            resume_after_s,
            ..
        } = &look.policy.memory;
        let pressure = known_share(look.observation.memory_pressure);
        let signal = Signal {
            trouble: pressure.is_some_and(|p| p > pressure_max),
            well: pressure.is_none_or(|p| p <= resume_pressure),
        };
        self.pressure.latch.update(look.now, signal, resume_after_s);
        self.pressure
            .stop(pressure, |pressure| Reason::MemoryPressure {
                pressure,
                resume_pressure,
            })
    }

    fn full_screen_asks(&mut self, look: &Look<'_>) -> Ask {
        let share_max = look.policy.presence.full_screen_share_max;
        let presence = look.observation.presence;
        let signal = Signal::plain(presence.is_some_and(|p| p.full_screen && !p.locked));
        match self.full_screen.update(look.now, signal, GONE_AFTER_S) {
            true if share_max > 0.0 => Ask::AtMost(share_max, Reason::FullScreen),
            true => Ask::Stop(Reason::FullScreen),
            false => Ask::Nothing,
        }
    }
}

fn schedule_asks(look: &Look<'_>) -> Ask {
    let Some(time) = look.observation.local_time.filter(|t| t.is_valid()) else {
        return Ask::Nothing;
    };
    let windows = &look.policy.schedule;
    match windows.is_empty() || windows.iter().any(|window| window.contains(time)) {
        true => Ask::Nothing,
        false => Ask::Stop(Reason::Schedule),
    }
}

/// A latch on a figure, and the figure as last told.
#[derive(Clone, Debug, Default)]
struct Gauge {
    latch: Latch,
    told: f64,
}

impl Gauge {
    fn stop(&mut self, told: Option<f64>, reason: impl Fn(f64) -> Reason) -> Ask {
        self.told = told.unwrap_or(self.told);
        match self.latch.is_on() {
            true => Ask::Stop(reason(self.told)),
            false => Ask::Nothing,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Exclusive {
    latch: Latch,
    application: String,
}

impl Exclusive {
    fn asks(&mut self, look: &Look<'_>) -> Ask {
        let running = &look.observation.applications;
        let runs = |name: &&String| running.iter().any(|r| r.eq_ignore_ascii_case(name));
        let application = look.policy.exclusive.iter().find(runs);
        if let Some(application) = application {
            self.application.clone_from(application);
        }
        let signal = Signal::plain(application.is_some());
        match self.latch.update(look.now, signal, GONE_AFTER_S) {
            true => Ask::Stop(Reason::Exclusive {
                application: self.application.clone(),
            }),
            false => Ask::Nothing,
        }
    }
}

/// Others' use of the processor or the GPU.
#[derive(Clone, Debug, Default)]
struct Load {
    others: Smooth,
    yields: Latch,
    stopped: Latch,
}

/// The share that others' load leaves: `None` asks for nothing.
struct Room {
    others: f64,
    share: Option<f64>,
}

impl Room {
    fn because(self, reason: impl Fn(f64) -> Reason) -> Ask {
        match self.share {
            None => Ask::Nothing,
            Some(share) if share > 0.0 => Ask::AtMost(share, reason(self.others)),
            Some(_) => Ask::Stop(reason(self.others)),
        }
    }
}

impl Load {
    fn asks(&mut self, look: &Look<'_>, rule: &LoadRule, told: Option<f64>) -> Room {
        let others = self.others.update(look.now, told, OF_LOAD);
        let heeded = rule.yield_above < 1.0;
        // Others may use this much before they leave less than the cap.
        let enter = (1.0 - rule.headroom - look.cap).max(rule.yield_above);
        let room = others.map(|others| 1.0 - others - rule.headroom);
        let yields = Signal {
            trouble: heeded && others.is_some_and(|others| others > enter),
            well: others.is_none_or(|others| !heeded || others <= (enter - LOAD_BAND).max(0.0)),
        };
        let too_little = |room: f64| room < rule.share_min || room <= 0.0;
        let stops = Signal {
            trouble: yields.trouble && room.is_some_and(too_little),
            well: room.is_none_or(|room| !heeded || room >= rule.resume_share),
        };
        let hold_s = rule.resume_after_s;
        let yields = self.yields.update(look.now, yields, hold_s);
        let stopped = self.stopped.update(look.now, stops, hold_s);
        let limited_max = look.cap * LIMITED_MAX;
        let share = match (stopped, yields) {
            (true, _) => Some(0.0),
            (false, true) => Some(room.map_or(limited_max, |room| room.min(limited_max))),
            (false, false) => None,
        };
        Room {
            others: others.unwrap_or_default(),
            share,
        }
    }

    fn released(&self) -> Self {
        Self {
            others: self.others.clone(),
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Heat {
    temperature_c: Smooth,
    limited: Latch,
    stopped: Latch,
    told_c: f64,
}

impl Heat {
    fn asks(&mut self, look: &Look<'_>) -> Ask {
        let &TemperatureRule {
            limit_above_c,
            stop_above_c,
            resume_below_c,
            resume_after_s,
        } = &look.policy.temperature;
        let known = |celsius: &f64| TEMPERATURES_C.contains(celsius);
        let told_c = look.observation.temperature_c.filter(known);
        let smooth_c = self.temperature_c.update(look.now, told_c, OF_TEMPERATURE);
        self.told_c = smooth_c.unwrap_or(self.told_c);
        let limit = Signal {
            trouble: smooth_c.is_some_and(|c| c > limit_above_c),
            well: smooth_c.is_none_or(|c| c <= limit_above_c - TEMPERATURE_BAND_C),
        };
        let stop = Signal {
            trouble: smooth_c.is_some_and(|c| c >= stop_above_c),
            well: smooth_c.is_none_or(|c| c <= resume_below_c),
        };
        let limited = self.limited.update(look.now, limit, resume_after_s);
        let stopped = self.stopped.update(look.now, stop, resume_after_s);
        let because = |limit_c| Reason::Temperature {
            temperature_c: self.told_c,
            limit_c,
        };
        match (stopped, limited) {
            (true, _) => Ask::Stop(because(resume_below_c)),
            (false, true) => {
                let left = (stop_above_c - self.told_c) / (stop_above_c - limit_above_c);
                let part = left.clamp(HOT_MIN, LIMITED_MAX);
                Ask::AtMost(look.cap * part, because(limit_above_c))
            }
            (false, false) => Ask::Nothing,
        }
    }

    fn released(&self) -> Self {
        Self {
            temperature_c: self.temperature_c.clone(),
            ..Self::default()
        }
    }
}
