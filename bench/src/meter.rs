//! One measurement: which processes work for it, what they used, and how busy the machine was with others.

use std::time::{Duration, Instant};

use crate::usage;

/// Processes by role; each counts with its children.
pub type Roles = Vec<(&'static str, u32)>;

/// A running measurement.
pub struct Meter {
    roles: Vec<(&'static str, u32, Duration)>,
    machine: Duration,
    own: Duration,
    started: Instant,
}

/// What was used between start and stop.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Used {
    pub seconds: f64,
    /// CPU seconds by role.
    pub cpu: Vec<(&'static str, f64)>,
    /// CPU seconds of the bench itself, which looks on, or pushes.
    pub own_cpu: f64,
    /// Cores that others kept busy meanwhile.
    pub noise: f64,
}

impl Meter {
    pub fn start(roles: Roles) -> Self {
        let roles = roles.into_iter().map(|(role, pid)| (role, pid, usage::cpu(pid))).collect();
        Self { roles, machine: usage::machine_cpu(), own: usage::own_cpu(), started: Instant::now() }
    }

    pub fn stop(self) -> Used {
        let seconds = self.started.elapsed().as_secs_f64();
        let own_cpu = usage::own_cpu().saturating_sub(self.own).as_secs_f64();
        let machine = usage::machine_cpu().saturating_sub(self.machine).as_secs_f64();
        let cpu: Vec<(&'static str, f64)> = self
            .roles
            .iter()
            .map(|(role, pid, before)| (*role, usage::cpu(*pid).saturating_sub(*before).as_secs_f64()))
            .collect();
        let ours: f64 = cpu.iter().map(|(_, seconds)| seconds).sum::<f64>() + own_cpu;
        Used { seconds, cpu, own_cpu, noise: ((machine - ours) / seconds).max(0.0) }
    }
}

impl Used {
    /// CPU seconds of all roles.
    pub fn total(&self) -> f64 {
        self.cpu.iter().map(|(_, seconds)| seconds).sum()
    }

    /// CPU seconds of one role.
    pub fn of(&self, role: &str) -> f64 {
        self.cpu.iter().filter(|(name, _)| *name == role).map(|(_, seconds)| seconds).sum()
    }
}
