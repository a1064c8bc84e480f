use std::thread;

use burn::module::Param;
use burn::tensor::Device;
use couplet_loss::{SigmoidLoss, SoftmaxLoss};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{
    BlockCount, ClassifierHead, Freeze, FreezeConfig, ImageTowerSpec, ModelSpec, ParameterVisitor,
    PreprocessSpec, presets, visit_parameters,
};

use super::*;
use crate::comm::Solo;
use crate::comm::threads::Threads;

const SIZE: usize = 32;
pub(super) const PASS: ForwardContext = ForwardContext {
    seed: 1,
    step: 2,
    first_row: 0,
};

pub(super) fn spec() -> ModelSpec {
    let mut spec = presets::find("ViT-Ti-8-32").unwrap();
    if let ImageTowerSpec::Vit(vit) = &mut spec.image {
        vit.patch_dropout = 0.25;
    }
    spec.init_logit_bias = Some(-3.0);
    spec
}

/// Pictures and captions of several lengths that are all different.
pub(super) fn pairs(rows: Range<usize>) -> HostBatch {
    let (mut pixels, mut tokens, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let pixel = |at: usize| u8::try_from((row * 37 + at * (row + 3)) % 256).unwrap();
        pixels.extend((0..SIZE * SIZE * 3).map(pixel));
        let word = |at: usize| i32::try_from(300 + 11 * row + 5 * at).unwrap();
        let words = 1 + row % 12;
        let mut caption = vec![49_406];
        caption.extend((0..words).map(word));
        caption.push(49_407);
        lengths.push(caption.len());
        caption.resize(16, 0);
        tokens.extend(caption);
    }
    HostBatch::from_host(&pixels, tokens, 16, lengths)
}

pub(super) fn encoding() -> Encoding {
    Encoding {
        device: Device::flex().autodiff(),
        recompute_blocks: false,
        freeze: FreezeConfig::default(),
        preprocess: PreprocessSpec::default(),
        image_size: SIZE,
    }
}

fn context(loss: Loss, micro_batch: usize, comm: Box<dyn Comm>) -> StepContext {
    StepContext {
        encoding: encoding(),
        lanes: LanePools::default(),
        objective: Objective::Contrast(loss),
        logit_rows: 7,
        micro_batch,
        comm,
    }
}

struct Named<'a>(&'a GradientsParams, NamedTensors);

impl ParameterVisitor for Named<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1.insert(name.into(), HostTensor::from_tensor(grad));
        }
    }
}

fn named(model: &Clip, batch: &BatchGradients) -> NamedTensors {
    let mut named = Named(&batch.params, NamedTensors::new());
    visit_parameters(model, &mut named);
    named.1
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// ‖a − b‖ / ‖b‖ of every tensor is at most 1e-5; of keys' biases, whose gradient is
/// rounding by nature, nothing is asked.
fn assert_same(ours: &NamedTensors, theirs: &NamedTensors) {
    assert_eq!(ours.len(), theirs.len());
    for (name, expected) in theirs {
        let width = expected.values.len() / 3;
        let is_key_bias = |at: usize| name.ends_with("in_proj_bias") && at / width == 1;
        let asked = |values: &[f32]| -> Vec<f32> {
            let kept = values
                .iter()
                .enumerate()
                .filter(|(at, _)| !is_key_bias(*at));
            kept.map(|(_, value)| *value).collect()
        };
        let (ours, expected) = (asked(&ours[name].values), asked(&expected.values));
        let gap = norm(ours.iter().zip(&expected).map(|(a, b)| a - b));
        let size = norm(expected.into_iter());
        assert!(gap <= 1e-5 * size, "{name}: {gap:e} of {size:e}");
    }
}

const LOSSES: [Loss; 2] = [
    Loss::Softmax(SoftmaxLoss {
        label_smoothing: 0.1,
    }),
    Loss::Sigmoid(SigmoidLoss {}),
];

#[test]
fn sixteen_micro_batches_give_the_gradients_of_one_batch() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    for loss in LOSSES {
        let of = |micro| {
            gradients(
                &model,
                pairs(0..64),
                &PASS,
                1.0,
                &context(loss, micro, Box::new(Solo)),
            )
        };
        let (whole, parts) = (of(64), of(4));
        assert!((whole.loss - parts.loss).abs() < 1e-5 * whole.loss.abs());
        let whole = named(&model, &whole);
        // The softmax loss does not read the bias, whose gradient is 0.
        let bias = whole["logit_bias"].values[0];
        assert_eq!(bias != 0.0, loss.needs_bias());
        assert_same(&named(&model, &parts), &whole);
    }
}

#[test]
fn blocks_computed_again_give_the_same_gradients() {
    let free = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let last = Freeze::AllButLast;
    for (image, text) in [
        (Freeze::Nothing, Freeze::Nothing),
        (last(2), Freeze::Nothing),
        (last(0), last(1)),
        (last(BlockCount::new(&spec()).image()), Freeze::All),
    ] {
        let freeze = FreezeConfig { image, text };
        let model = free.clone().freeze(freeze, &spec());
        let of = |micro, recompute_blocks| {
            let context = StepContext {
                encoding: Encoding {
                    recompute_blocks,
                    freeze,
                    ..encoding()
                },
                ..context(LOSSES[0], micro, Box::new(Solo))
            };
            named(
                &model,
                &gradients(&model, pairs(0..12), &PASS, 1.0, &context),
            )
        };
        let kept = of(12, false);
        assert_same(&of(12, true), &kept);
        assert_same(&of(4, true), &kept);
    }
}

#[test]
fn ranks_with_a_share_each_give_the_gradients_of_one_rank_with_all() {
    let device = Device::flex().autodiff();
    for loss in LOSSES {
        let model = Clip::init(&spec(), 0, &device);
        let whole = gradients(
            &model,
            pairs(0..24),
            &PASS,
            1.0,
            &context(loss, 24, Box::new(Solo)),
        );
        let ranks: Vec<_> = (Threads::team(3).into_iter().enumerate())
            .map(|(rank, comm)| {
                let model = model.clone();
                thread::spawn(move || {
                    // Two micro-batches on each rank.
                    let context = context(loss, 4, Box::new(comm));
                    let pass = ForwardContext {
                        first_row: 8 * rank as u64,
                        ..PASS
                    };
                    let batch = pairs(8 * rank..8 * (rank + 1));
                    let batch = gradients(&model, batch, &pass, 1.0, &context);
                    assert_eq!(context.comm.count(2), 6);
                    assert!(context.comm.any(rank == 1));
                    (batch.loss, named(&model, &batch))
                })
            })
            .collect();
        let ranks: Vec<_> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        for (loss, grads) in &ranks {
            assert!((loss - whole.loss).abs() < 1e-5 * whole.loss.abs());
            assert_same(grads, &named(&model, &whole));
            // Bit for bit: ranks must never drift apart.
            assert_eq!(grads, &ranks[0].1);
        }
    }
}

#[test]
fn a_frozen_tower_has_no_gradients_and_the_other_its_own() {
    let table = FreezeConfig {
        image: Freeze::All,
        text: Freeze::AllButLast(1),
    };
    let device = Device::flex().autodiff();
    let free = Clip::init(&spec(), 0, &device);
    let frozen = free.clone().freeze(table, &spec());
    let whole = gradients(
        &free,
        pairs(0..8),
        &PASS,
        1.0,
        &context(LOSSES[0], 8, Box::new(Solo)),
    );
    let whole = named(&free, &whole);
    for micro in [8, 2] {
        let mut context = context(LOSSES[0], micro, Box::new(Solo));
        context.encoding.freeze = table;
        let grads = named(
            &frozen,
            &gradients(&frozen, pairs(0..8), &PASS, 1.0, &context),
        );
        let last = spec().text.layers - 1;
        let trained = [
            format!("transformer.resblocks.{last}."),
            "ln_final.".into(),
            "text_projection".into(),
            "logit_".into(),
        ];
        let expected: NamedTensors = (whole.iter())
            .filter(|(name, _)| trained.iter().any(|part| name.starts_with(part.as_str())))
            .map(|(name, grad)| (name.clone(), grad.clone()))
            .collect();
        assert_same(&grads, &expected);
    }
}

/// A ResNet of one narrow block a stage.
fn resnet() -> ModelSpec {
    let mut spec = presets::find("RN50").unwrap();
    if let ImageTowerSpec::ResNet(resnet) = &mut spec.image {
        (resnet.layers, resnet.width, resnet.heads) = ([1; 4], 8, 4);
        resnet.image_size = SIZE;
    }
    spec.text = presets::find("ViT-Ti-8-32").unwrap().text;
    spec
}

#[test]
fn frozen_norms_stay_as_they_are_and_the_others_follow_every_micro_batch() {
    let device = Device::flex().autodiff();
    let table = FreezeConfig {
        image: Freeze::AllButLast(2),
        text: Freeze::Nothing,
    };
    let model = Clip::init(&resnet(), 0, &device).freeze(table, &resnet());
    let before = couplet_model::weights::parameters(&model);
    let settings: crate::optimizer::OptimizerSettings =
        serde_json::from_str(r#"{"lr": 1e-3}"#).unwrap();
    let table = crate::optimizer::OptimizerConfig::AdamW(settings);
    let mut optimizer = ModelOptimizer::new(&table, &resnet());
    let context = context(LOSSES[0], 2, Box::new(Solo));
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        1e-3,
        1.0,
        &context,
    );
    assert!(report.updated);
    let after = couplet_model::weights::parameters(&model);
    for (name, tensor) in &before {
        let is_frozen = ["conv", "bn", "layer1.", "layer2."].iter().any(|part| {
            name.strip_prefix("visual.")
                .is_some_and(|name| name.starts_with(part))
        });
        // Two gains and shifts behind a zero gain have no gradient at the first step.
        let must_move = name.contains("running_") || name.starts_with("visual.attnpool.");
        if is_frozen {
            assert_eq!(&after[name], tensor, "{name}");
        } else if must_move && !name.ends_with("k_proj.bias") {
            assert_ne!(&after[name], tensor, "{name}");
        }
    }
}

#[test]
fn gradients_carry_the_loss_scale() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let context = context(LOSSES[0], 4, Box::new(Solo));
    let of = |scale| gradients(&model, pairs(0..8), &PASS, scale, &context);
    let (plain, scaled) = (of(1.0), of(8.0));
    assert_eq!(plain.loss, scaled.loss);
    let ratio = global_norm(&model, &scaled.params) / global_norm(&model, &plain.params);
    assert!((ratio - 8.0).abs() < 1e-4, "{ratio}");
}

#[test]
fn half_precision_gradients_point_the_same_way() {
    use couplet_model::Precision;
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let context = context(LOSSES[0], 8, Box::new(Solo));
    let of = |precision| {
        let model = model.clone().with_precision(precision);
        named(
            &model,
            &gradients(&model, pairs(0..16), &PASS, 1024.0, &context),
        )
    };
    let all = |grads: NamedTensors| -> Vec<f32> {
        grads.into_values().flat_map(|grad| grad.values).collect()
    };
    let exact = all(of(Precision::F32));
    for (precision, least) in [(Precision::Bf16, 0.99), (Precision::F16, 0.999)] {
        let narrow = all(of(precision));
        assert_ne!(narrow, exact);
        let products = narrow.iter().zip(&exact);
        let dot: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let cosine = dot / (norm(narrow.into_iter()) * norm(exact.iter().copied()));
        assert!(cosine > least, "{precision:?}: {cosine}");
    }
}

#[test]
fn an_overflow_leaves_the_model_as_it_was() {
    use crate::optimizer::{OptimizerConfig, OptimizerSettings};
    let table = OptimizerConfig::AdamW(OptimizerSettings {
        lr: 1e-3,
        betas: [0.9, 0.98],
        eps: None,
        weight_decay: 0.2,
        no_decay: Vec::new(),
        clip_norm: None,
        layer_decay: None,
        group: Vec::new(),
    });
    let mut optimizer = ModelOptimizer::new(&table, &spec());
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let before = couplet_model::weights::parameters(&model);
    let context = context(LOSSES[0], 8, Box::new(Solo));
    let huge = f64::from(f32::MAX) * 2.0;
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        1e-3,
        huge,
        &context,
    );
    assert!(!report.updated);
    assert_eq!(couplet_model::weights::parameters(&model), before);
    let (model, report) = step(
        model,
        &mut optimizer,
        pairs(0..8),
        &PASS,
        1e-3,
        1.0,
        &context,
    );
    assert!(report.updated);
    assert_ne!(couplet_model::weights::parameters(&model), before);
}

/// A model with a head, and a batch of 12 images of three classes.
fn classifier() -> (Clip, HostBatch) {
    let device = Device::flex().autodiff();
    let spec = spec();
    let weight = Tensor::<1>::from_floats([0.3, -0.2, 0.5, 0.1, 0.7, -0.4], &device);
    let weight = weight
        .repeat(&[spec.embed_dim / 2])
        .reshape([3, spec.embed_dim]);
    let model = Clip::init(&spec, 3, &device).with_head(ClassifierHead::new(weight));
    let mut host = pairs(0..12);
    host.labels = (0..12).map(|at| at % 3).collect();
    (model.freeze_all_but_classifier(), host)
}

fn classify(micro_batch: usize) -> StepContext {
    StepContext {
        objective: Objective::Classify {
            label_smoothing: 0.1,
        },
        ..context(Loss::default(), micro_batch, Box::new(Solo))
    }
}

#[test]
fn a_classification_batch_in_parts_has_the_gradients_of_the_whole() {
    let of = |context: &StepContext| {
        let (model, host) = classifier();
        let batch = gradients(&model, host, &PASS, 8.0, context);
        (batch.loss, named(&model, &batch))
    };
    let (loss, whole) = of(&classify(12));
    assert!(whole.contains_key("head.weight") && whole.contains_key("head.bias"));
    assert!(
        whole
            .keys()
            .all(|name| name.starts_with("visual.") || name.starts_with("head."))
    );
    for micro in [5, 4, 1] {
        let (part_loss, parts) = of(&classify(micro));
        assert!((part_loss - loss).abs() < 1e-6, "{part_loss} for {loss}");
        assert_same(&parts, &whole);
    }
    let by_block = StepContext {
        encoding: Encoding {
            recompute_blocks: true,
            ..encoding()
        },
        ..classify(12)
    };
    assert_same(&of(&by_block).1, &whole);
    // The head alone.
    let mut head_only = classify(5);
    head_only.encoding.freeze.image = Freeze::All;
    let (_, head) = of(&head_only);
    assert_eq!(head.len(), 2);
    for (name, gradient) in &head {
        let gap = norm(
            gradient
                .values
                .iter()
                .zip(&whole[name].values)
                .map(|(a, b)| a - b),
        );
        assert!(
            gap < 1e-5 * norm(whole[name].values.iter().copied()),
            "{name}"
        );
    }
}

/// Side by side, in one pass or several, with graphs kept or made again.
#[test]
fn lanes_have_the_gradients_of_the_whole() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let of = |micro: usize, cores: usize, recompute_blocks: bool| {
        let context = StepContext {
            encoding: Encoding {
                recompute_blocks,
                ..encoding()
            },
            lanes: LanePools::new(&spec(), micro, cores).unwrap(),
            ..context(Loss::default(), micro, Box::new(Solo))
        };
        let batch = gradients(&model, pairs(0..24), &PASS, 1.0, &context);
        (batch.loss, named(&model, &batch))
    };
    let (loss, whole) = of(24, 1, false);
    for (micro, cores, recompute) in [
        (24, 2, false),
        (24, 3, false),
        (12, 2, false),
        (24, 2, true),
    ] {
        let (lanes_loss, lanes) = of(micro, cores, recompute);
        assert!((lanes_loss - loss).abs() < 1e-6, "{lanes_loss} for {loss}");
        assert_same(&lanes, &whole);
        assert_eq!(
            lanes,
            of(micro, cores, recompute).1,
            "the same bits each time"
        );
    }
    let classes = |cores: usize| {
        let (model, host) = classifier();
        let context = StepContext {
            lanes: LanePools::new(&spec(), 12, cores).unwrap(),
            ..classify(12)
        };
        named(&model, &gradients(&model, host, &PASS, 8.0, &context))
    };
    assert_same(&classes(3), &classes(1));
}
