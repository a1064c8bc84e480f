//! Dynamic loss scaling: keeps f16 gradients between underflow and overflow.

use serde::{Deserialize, Serialize};

/// The loss scale and its state.
/// Source: Micikevicius et al. 2018, "Mixed Precision Training"; the constants of
/// `torch.amp.GradScaler`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LossScale {
    pub scale: f64,
    /// Steps without overflow since the scale last changed.
    pub good_steps: u32,
}

const INITIAL: f64 = 65_536.0;
/// Steps without overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;
/// Below this, the overflow is not a matter of the scale.
const MIN_SCALE: f64 = 1.0;

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: INITIAL,
            good_steps: 0,
        }
    }
}

impl LossScale {
    /// Adapts the scale after a step.
    /// - updated: whether the step's gradients were finite.
    pub fn update(&mut self, updated: bool) {
        if !updated {
            self.scale /= 2.0;
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            self.scale *= 2.0;
            self.good_steps = 0;
        }
    }

    /// Whether gradients overflow at any scale.
    pub fn is_exhausted(&self) -> bool {
        self.scale < MIN_SCALE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_an_overflow_and_doubles_after_2000_good_steps() {
        let mut scale = LossScale::default();
        scale.update(true);
        scale.update(false);
        assert_eq!(scale.scale, 32_768.0);
        for _ in 0..1999 {
            scale.update(true);
        }
        assert_eq!(scale.scale, 32_768.0);
        scale.update(true);
        assert_eq!(scale.scale, 65_536.0);
        (0..17).for_each(|_| scale.update(false));
        assert!(scale.is_exhausted());
    }
}
