//! Whole steps, with their updates.

use burn::tensor::Device;
use couplet_model::{
    Clip, ForwardContext, Freeze, FreezeConfig, ImageTowerSpec, ModelSpec, ResNetSpec, presets,
};
use couplet_ranks::Lost;

use super::{LOSSES, assert_same, context};
use crate::comm::Comm;
use crate::comm::threads::on_ranks;
use crate::optimizer::ModelOptimizer;
use crate::step::fixtures::{PASS, SIZE, pairs, spec};
use crate::step::{StepNumbers, StepReport, StepSettings, step};

fn known(numbers: Result<StepNumbers, Lost>) -> StepReport {
    StepNumbers::read(vec![numbers.unwrap()])[0]
}

fn settings(loss_scale: f64) -> StepSettings {
    StepSettings {
        lr: 1e-3,
        loss_scale,
        may_run_ahead: false,
    }
}

/// A ResNet with one narrow block in each stage.
fn resnet() -> ModelSpec {
    let mut spec = presets::find("RN50").unwrap();
    spec.image = ImageTowerSpec::ResNet(ResNetSpec {
        image_size: SIZE,
        layers: [1; 4],
        width: 8,
        heads: 4,
    });
    spec.text = presets::find("ViT-Ti-8-32").unwrap().text;
    spec
}

#[test]
fn only_trained_batch_norms_update_their_running_statistics() {
    let device = Device::flex().autodiff();
    let freeze = FreezeConfig {
        image: Freeze::AllButLast(2),
        text: Freeze::Nothing,
    };
    let model = Clip::init(&resnet(), 0, &device).freeze(freeze, &resnet());
    let before = couplet_model::weights::parameters(&model);
    let optimizer: crate::OptimizerSettings = serde_json::from_str(r#"{"lr": 1e-3}"#).unwrap();
    let config = crate::OptimizerConfig::AdamW(optimizer);
    let mut optimizer = ModelOptimizer::new(&config, &resnet());
    let context = context(&LOSSES[0], 2, Comm::alone());
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        settings(1.0),
        &context,
    );
    assert!(known(report).updated);
    let after = couplet_model::weights::parameters(&model);
    for (name, tensor) in &before {
        let is_frozen = ["conv", "bn", "layer1.", "layer2."].iter().any(|part| {
            name.strip_prefix("visual.")
                .is_some_and(|name| name.starts_with(part))
        });
        // Parameters before a gain of zero have no gradient in the first step.
        let must_move = name.contains("running_") || name.starts_with("visual.attnpool.");
        if is_frozen {
            assert_eq!(&after[name], tensor, "{name}");
        } else if must_move && !name.ends_with("k_proj.bias") {
            assert_ne!(&after[name], tensor, "{name}");
        }
    }
}

#[test]
fn an_overflow_leaves_the_model_unchanged() {
    use crate::{OptimizerConfig, OptimizerSettings};
    let config = OptimizerConfig::AdamW(OptimizerSettings {
        lr: 1e-3,
        betas: [0.9, 0.98],
        eps: None,
        weight_decay: 0.2,
        no_decay: Vec::new(),
        clip_norm: None,
        layer_decay: None,
        group: Vec::new(),
    });
    let mut optimizer = ModelOptimizer::new(&config, &spec());
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let before = couplet_model::weights::parameters(&model);
    let context = context(&LOSSES[0], 8, Comm::alone());
    let huge = f64::from(f32::MAX) * 2.0;
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        settings(huge),
        &context,
    );
    assert!(!known(report).updated);
    assert_eq!(couplet_model::weights::parameters(&model), before);
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        settings(1.0),
        &context,
    );
    assert!(known(report).updated);
    assert_ne!(couplet_model::weights::parameters(&model), before);
}

/// The running statistics too, whichever rank a micro-batch was on.
#[test]
fn several_ranks_update_a_resnet_as_one_does() {
    let device = Device::flex().autodiff();
    for freeze in [
        FreezeConfig::default(),
        // One tower has no gradients to sum.
        FreezeConfig {
            image: Freeze::Nothing,
            text: Freeze::All,
        },
    ] {
        let model = Clip::init(&resnet(), 0, &device).freeze(freeze, &resnet());
        let updated = |comm: Comm| {
            let (rank, own) = (comm.rank(), 12 / comm.ranks());
            // Plain descent: AdamW would divide rounding by rounding.
            let optimizer = serde_json::from_str(r#"{"lr": 1e-3, "eps": 1e3, "clip_norm": 1.0}"#);
            let config = crate::OptimizerConfig::AdamW(optimizer.unwrap());
            let mut optimizer = ModelOptimizer::new(&config, &resnet());
            let mut context = context(&LOSSES[0], 2, comm);
            context.encoding.freeze = freeze;
            let pass = ForwardContext {
                first_row: (own * rank) as u64,
                ..PASS
            };
            let batch = pairs(own * rank..own * (rank + 1));
            let (model, report) = step(
                model.clone(),
                &mut optimizer,
                batch,
                &pass,
                settings(1.0),
                &context,
            );
            (couplet_model::weights::parameters(&model), known(report))
        };
        let (whole, report) = updated(Comm::alone());
        let ranks = on_ranks(3, updated);
        for (parameters, own) in &ranks {
            assert!((own.loss - report.loss).abs() < 1e-5 * report.loss);
            assert!((own.grad_norm - report.grad_norm).abs() < 1e-5 * report.grad_norm);
            assert_same(parameters, &whole);
            assert_eq!(parameters, &ranks[0].0);
        }
        let moved = |name: &str| whole[name] != couplet_model::weights::parameters(&model)[name];
        assert!(moved("visual.bn1.running_mean") && moved("visual.conv1.weight"));
    }
}
