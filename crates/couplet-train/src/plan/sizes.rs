//! The sizes that a plan consists of.

use couplet_model::{ModelCost, Precision};

use crate::device::DeviceSetting;

/// Sizes, arithmetic and memory of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    pub device: DeviceSetting,
    pub precision: Precision,
    pub model: ModelCost,
    /// Trained parameters, including the temperature and a classification head.
    pub trained_parameters: u64,
    /// Caption length in tokens that the estimates below assume.
    pub tokens: usize,
    /// Floating-point operations of one forward pass over one pair.
    pub forward_flops: f64,
    /// Floating-point operations of a training step per pair: its forward passes, and the
    /// backward pass at twice the forward pass of what is trained, three times where blocks are
    /// recomputed. Dropped patches are not counted.
    pub step_flops: f64,
    /// The part of `step_flops` that is the backward pass of the tower with fewer trained parameters. It comes last,
    /// and the other tower's gradients travel to other ranks behind it.
    pub late_backward_flops: f64,
    pub batch: usize,
    pub micro_batch: usize,
    pub samples_per_epoch: usize,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    pub memory: Vec<MemoryPart>,
}

impl RunPlan {
    /// Samples of the run, counted once per epoch.
    pub fn samples(&self) -> u64 {
        self.total_steps * self.batch as u64
    }

    /// Bytes of one part.
    pub(super) fn part(&self, name: &str) -> f64 {
        let parts = self.memory.iter().filter(|part| part.name == name);
        parts.map(|part| part.bytes).sum()
    }

    /// Bytes on the host, or on the device.
    pub fn bytes(&self, on_host: bool) -> f64 {
        let parts = self.memory.iter().filter(|part| part.on_host == on_host);
        parts.map(|part| part.bytes).sum()
    }
}

/// One part of a run's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPart {
    pub name: &'static str,
    pub bytes: f64,
    /// Whether it is in host memory, not on a GPU.
    pub on_host: bool,
}
