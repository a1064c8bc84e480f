//! Floating-point operations of a run's steps.

use couplet_model::{BlockCount, Freeze, ModelSpec, TrainableParameters};

use super::RunPlan;
use crate::config::ResolvedRun;

impl ResolvedRun {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn count_flops(
        &self,
        spec: &ModelSpec,
        trained: TrainableParameters,
        plan: &mut RunPlan,
    ) {
        let config = &self.config;
        let image = spec.image_flops();
        let text = if config.classify.is_some() {
            0.0
        } else {
            spec.forward_flops(plan.tokens) - image
        };
        // With several micro-batches, an additional forward pass computes the features.
        let has_feature_pass = plan.micro_batch < plan.batch && config.classify.is_none();
        let passes = 1.0 + f64::from(u8::from(has_feature_pass));
        // A backward pass costs as much as two forward passes, or three if blocks are recomputed.
        let backward = 2.0 + f64::from(u8::from(config.batch.recompute_blocks));
        let blocks = BlockCount::new(spec);
        let backward_of = |forward: f64, trained: u64, freeze: Freeze, blocks: usize| {
            let share = match freeze {
                _ if trained == 0 => return 0.0,
                Freeze::AllButLast(last) => last as f64 / blocks as f64,
                Freeze::Nothing | Freeze::All => 1.0,
            };
            forward * backward * share
        };
        // What is not trained needs no features beforehand, and no second forward pass.
        let forward_of = |forward: f64, trained: u64| match trained {
            0 => forward,
            _ => forward * passes,
        };
        plan.forward_flops = image + text;
        let image = spec.image_train_flops();
        let freeze = self.freezing();
        let of_image = backward_of(image, trained.image, freeze.image, blocks.image());
        let of_text = backward_of(text, trained.text, freeze.text, blocks.text());
        plan.late_backward_flops = if trained.text > trained.image {
            of_image
        } else {
            of_text
        };
        let forward = forward_of(image, trained.image) + forward_of(text, trained.text);
        plan.step_flops = forward + of_image + of_text;
    }
}
