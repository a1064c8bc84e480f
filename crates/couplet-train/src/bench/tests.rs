use couplet_model::{Freeze, FreezeConfig, presets};

use super::batch::{captions, pixels};
use super::{StepBenchSettings, bench_step};
use crate::optimizer::{OptimizerConfig, OptimizerSettings};

fn settings() -> StepBenchSettings {
    StepBenchSettings {
        micro: Some(2),
        caption_tokens: Some(10),
        steps: 2,
        ..StepBenchSettings::new(presets::find("ViT-Ti-8-32").unwrap(), 4)
    }
}

#[test]
fn every_timed_step_is_reported() {
    let bench = bench_step(&settings()).unwrap();
    assert_eq!(
        (bench.steps.len(), bench.forward.len(), bench.tokens),
        (2, 2, 10)
    );
    assert!(bench.step_flops > 3.0 * bench.forward_flops && bench.matmul_flops > 1e8);
}

#[test]
fn frozen_towers_other_optimizers_and_classifiers_can_be_timed() {
    let text = FreezeConfig {
        text: Freeze::All,
        ..FreezeConfig::default()
    };
    let lion = OptimizerConfig::Lion(OptimizerSettings::paper(1e-4));
    for settings in [
        StepBenchSettings {
            optimizer: lion,
            freeze: text,
            recompute_blocks: true,
            ..settings()
        },
        StepBenchSettings {
            classes: Some(3),
            ..settings()
        },
    ] {
        assert_eq!(bench_step(&settings).unwrap().steps.len(), 2);
    }
}

#[test]
fn captions_end_with_the_last_token_id() {
    let (pixels, tokens) = (pixels(&settings()), captions(&settings(), 0));
    let length = settings().tokens();
    assert_eq!(
        (pixels.len(), tokens.len(), length),
        (4 * 32 * 32 * 3, 4 * 16, 10)
    );
    let last = tokens.iter().max().unwrap();
    assert!(
        tokens
            .chunks(16)
            .all(|row| row[9] == *last && row[10..] == [0; 6])
    );
}

#[test]
fn invalid_sizes_name_their_argument() {
    let error = |change: &dyn Fn(&mut StepBenchSettings)| {
        let mut settings = settings();
        change(&mut settings);
        bench_step(&settings).unwrap_err().argument
    };
    assert_eq!(error(&|s| s.batch = 1), "--batch");
    assert_eq!(error(&|s| s.micro = Some(3)), "--micro");
    assert_eq!(error(&|s| s.caption_tokens = Some(78)), "--caption-tokens");
}
