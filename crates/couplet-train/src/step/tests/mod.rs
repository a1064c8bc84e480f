use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use couplet_loss::{Loss, PairLoss, SigmoidLoss, SoftmaxLoss};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{
    BlockCount, Freeze, FreezeConfig, ParameterVisitor, PreprocessSpec, visit_parameters,
};

use super::encode::Encoding;
use super::fixtures::{PASS, SIZE, pairs, spec};
use super::pools::StepPools;
use super::*;
use crate::comm::threads::on_ranks;

mod classes;
mod updates;

fn encoding() -> Encoding {
    Encoding {
        device: Device::flex().autodiff(),
        recompute_blocks: false,
        freeze: FreezeConfig::default(),
        preprocess: PreprocessSpec::default(),
        image_size: SIZE,
        sorts_tokens: false,
    }
}

fn context(loss: &Loss, micro_batch: usize, comm: Comm) -> StepContext {
    StepContext {
        encoding: encoding(),
        pools: StepPools::default(),
        objective: Objective::Contrast(loss.built_in().unwrap()),
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

/// Asserts that ‖ours − theirs‖ / ‖theirs‖ is at most 1e-5 for every tensor. The biases of
/// attention's keys are excluded: their gradient is only rounding.
fn assert_same(ours: &NamedTensors, theirs: &NamedTensors) {
    assert_eq!(ours.len(), theirs.len());
    for (name, expected) in theirs {
        let width = expected.values.len() / 3;
        let is_key_bias = |at: usize| name.ends_with("in_proj_bias") && at / width == 1;
        let compared = |values: &[f32]| -> Vec<f32> {
            let kept = values
                .iter()
                .enumerate()
                .filter(|(at, _)| !is_key_bias(*at));
            kept.map(|(_, value)| *value).collect()
        };
        let (ours, expected) = (compared(&ours[name].values), compared(&expected.values));
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
                &context(&loss, micro, Comm::alone()),
            )
            .unwrap()
        };
        let (whole, parts) = (of(64), of(4));
        assert!((whole.loss() - parts.loss()).abs() < 1e-5 * whole.loss().abs());
        let whole = named(&model, &whole);
        // The softmax loss does not read the bias, whose gradient is 0.
        let bias = whole["logit_bias"].values[0];
        assert_eq!(bias != 0.0, loss.needs_bias());
        assert_same(&named(&model, &parts), &whole);
    }
}

#[test]
fn recomputed_blocks_and_sorted_tokens_give_the_same_gradients() {
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
        let of = |micro, recompute_blocks, sorts_tokens| {
            let context = StepContext {
                encoding: Encoding {
                    recompute_blocks,
                    freeze,
                    sorts_tokens,
                    ..encoding()
                },
                ..context(&LOSSES[0], micro, Comm::alone())
            };
            named(
                &model,
                &gradients(&model, pairs(0..12), &PASS, 1.0, &context).unwrap(),
            )
        };
        let kept = of(12, false, false);
        for (micro, recomputes, sorts_tokens) in [
            (12, true, false),
            (4, true, false),
            (12, false, true),
            (4, true, true),
        ] {
            assert_same(&of(micro, recomputes, sorts_tokens), &kept);
        }
    }
}

/// A loss that is not a sum over pairs: it has no rows.
struct Own;

impl PairLoss for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn forward(&self, features: Features) -> Tensor<1> {
        let others = features
            .image
            .clone()
            .matmul(features.text.clone().transpose());
        let apart = (features.image - features.text).square().sum().sqrt();
        others.exp().sum().log() * features.logit_scale + apart
    }
}

#[test]
fn an_own_loss_has_the_same_gradients_in_micro_batches_and_on_ranks() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let own = |micro, comm| StepContext {
        objective: Objective::Contrast(std::sync::Arc::new(Own)),
        ..context(&LOSSES[0], micro, comm)
    };
    let of =
        |micro| gradients(&model, pairs(0..24), &PASS, 1.0, &own(micro, Comm::alone())).unwrap();
    let (whole, parts) = (of(24), of(3));
    assert!((whole.loss() - parts.loss()).abs() < 1e-5 * whole.loss().abs());
    assert_same(&named(&model, &parts), &named(&model, &whole));
    let ranks = on_ranks(3, |comm| {
        let rank = comm.rank();
        let context = own(4, comm);
        let batch = gradients(
            &model,
            pairs(8 * rank..8 * (rank + 1)),
            &pass_of(rank),
            1.0,
            &context,
        );
        let batch = batch.unwrap();
        (batch.loss(), named(&model, &batch))
    });
    for (loss, grads) in ranks {
        assert!((loss - whole.loss()).abs() < 1e-5 * whole.loss().abs());
        assert_same(&grads, &named(&model, &whole));
    }
}

/// The pass of a rank with eight pairs.
fn pass_of(rank: usize) -> ForwardContext {
    ForwardContext {
        first_row: 8 * rank as u64,
        ..PASS
    }
}

#[test]
fn several_ranks_give_the_gradients_of_one() {
    let device = Device::flex().autodiff();
    for loss in LOSSES {
        let model = Clip::init(&spec(), 0, &device);
        let whole = gradients(
            &model,
            pairs(0..24),
            &PASS,
            1.0,
            &context(&loss, 24, Comm::alone()),
        )
        .unwrap();
        let ranks = on_ranks(3, |comm| {
            let rank = comm.rank();
            // Two micro-batches on each rank.
            let context = context(&loss, 4, comm);
            let batch = pairs(8 * rank..8 * (rank + 1));
            let batch = gradients(&model, batch, &pass_of(rank), 1.0, &context).unwrap();
            (batch.loss(), named(&model, &batch))
        });
        for (loss, grads) in &ranks {
            assert!((loss - whole.loss()).abs() < 1e-5 * whole.loss().abs());
            assert_same(grads, &named(&model, &whole));
            // Bit-identical, so that ranks never diverge.
            assert_eq!(grads, &ranks[0].1);
        }
    }
}

/// The larger tower's gradients travel first, and only some rows of the token embedding's.
#[test]
fn ranks_give_the_gradients_of_one_whichever_tower_is_larger_or_frozen() {
    let device = Device::flex().autodiff();
    let text_first = spec();
    let mut image_first = spec();
    (image_first.text.width, image_first.text.heads) = (4, 1);
    let nothing = FreezeConfig::default();
    let part_of_text = FreezeConfig {
        text: Freeze::AllButLast(1),
        ..nothing
    };
    let all_of_text = FreezeConfig {
        text: Freeze::All,
        ..nothing
    };
    for (spec, freeze, is_image_first) in [
        (&text_first, nothing, false),
        (&image_first, nothing, true),
        (&text_first, part_of_text, true),
        (&text_first, all_of_text, true),
    ] {
        let model = Clip::init(spec, 0, &device).freeze(freeze, spec);
        let [images, texts] = tower_sizes(&model);
        assert_eq!(images > texts, is_image_first, "{freeze:?}");
        let of = |rows: Range<usize>, pass: &ForwardContext, comm: Comm| {
            let mut context = context(&Loss::default(), rows.len(), comm);
            context.encoding.freeze = freeze;
            context.pools = StepPools::new(spec, rows.len(), 2).unwrap();
            let batch = pairs(rows);
            let run = || gradients(&model, batch, pass, 1.0, &context).unwrap();
            named(&model, &context.pools.run(run))
        };
        let whole = of(0..16, &PASS, Comm::alone());
        let ranks = on_ranks(2, |comm| {
            let rank = comm.rank();
            of(8 * rank..8 * (rank + 1), &pass_of(rank), comm)
        });
        for grads in &ranks {
            assert_same(grads, &whole);
            assert_eq!(grads, &ranks[0]);
        }
    }
}

#[test]
fn only_trained_parameters_have_gradients() {
    let freeze = FreezeConfig {
        image: Freeze::All,
        text: Freeze::AllButLast(1),
    };
    let device = Device::flex().autodiff();
    let free = Clip::init(&spec(), 0, &device);
    let frozen = free.clone().freeze(freeze, &spec());
    let whole = gradients(
        &free,
        pairs(0..8),
        &PASS,
        1.0,
        &context(&LOSSES[0], 8, Comm::alone()),
    )
    .unwrap();
    let whole = named(&free, &whole);
    for micro in [8, 2] {
        let mut context = context(&LOSSES[0], micro, Comm::alone());
        context.encoding.freeze = freeze;
        let grads = named(
            &frozen,
            &gradients(&frozen, pairs(0..8), &PASS, 1.0, &context).unwrap(),
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

#[test]
fn gradients_are_multiplied_by_the_loss_scale() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let context = context(&LOSSES[0], 4, Comm::alone());
    let of = |scale| gradients(&model, pairs(0..8), &PASS, scale, &context).unwrap();
    let (plain, scaled) = (of(1.0), of(8.0));
    assert_eq!(plain.loss(), scaled.loss());
    let ratio = global_norm(&model, &scaled.params) / global_norm(&model, &plain.params);
    assert!((ratio - 8.0).abs() < 1e-4, "{ratio}");
}

#[test]
fn half_precision_gradients_point_the_same_way() {
    use couplet_model::Precision;
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let context = context(&LOSSES[0], 8, Comm::alone());
    let of = |precision| {
        let model = model.clone().with_precision(precision);
        named(
            &model,
            &gradients(&model, pairs(0..16), &PASS, 1024.0, &context).unwrap(),
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

/// With one micro-batch or several, with kept graphs or recomputed blocks.
#[test]
fn lanes_give_the_gradients_of_the_whole_batch() {
    let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
    let of = |micro: usize, cores: usize, recompute_blocks: bool| {
        let context = StepContext {
            encoding: Encoding {
                recompute_blocks,
                ..encoding()
            },
            pools: StepPools::new(&spec(), micro, cores).unwrap(),
            ..context(&Loss::default(), micro, Comm::alone())
        };
        let batch = gradients(&model, pairs(0..24), &PASS, 1.0, &context).unwrap();
        (batch.loss(), named(&model, &batch))
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
}
