//! Gradients of classification batches.

use burn::tensor::{Device, Tensor};
use couplet_data::loader::HostBatch;
use couplet_loss::Loss;
use couplet_model::{ClassifierHead, Clip, ForwardContext, Freeze};

use super::{assert_same, context, encoding, named, norm};
use crate::comm::Comm;
use crate::comm::threads::on_ranks;
use crate::step::encode::Encoding;
use crate::step::fixtures::{PASS, pairs, spec};
use crate::step::pools::StepPools;
use crate::step::{Objective, StepContext, gradients};

/// A model with a classifier, and a batch of 12 images of three classes.
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
        ..context(&Loss::default(), micro_batch, Comm::alone())
    }
}

#[test]
fn micro_batches_give_the_gradients_of_the_whole_classification_batch() {
    let of = |context: &StepContext| {
        let (model, host) = classifier();
        let batch = gradients(&model, host, &PASS, 8.0, context).unwrap();
        (batch.loss(), named(&model, &batch))
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

#[test]
fn lanes_give_the_gradients_of_the_whole_classification_batch() {
    let classes = |cores: usize| {
        let (model, host) = classifier();
        let context = StepContext {
            pools: StepPools::new(&spec(), 12, cores).unwrap(),
            ..classify(12)
        };
        named(
            &model,
            &gradients(&model, host, &PASS, 8.0, &context).unwrap(),
        )
    };
    assert_same(&classes(3), &classes(1));
}

#[test]
fn several_ranks_give_the_gradients_of_one_classification_batch() {
    let (model, host) = classifier();
    let whole = gradients(&model, host, &PASS, 8.0, &classify(12)).unwrap();
    for (loss, grads) in on_ranks(3, |comm| {
        let rank = comm.rank();
        let rows = 4 * rank..4 * (rank + 1);
        let mut host = pairs(rows.clone());
        host.labels = rows.map(|at| i32::try_from(at % 3).unwrap()).collect();
        let context = StepContext {
            comm,
            ..classify(2)
        };
        let pass = ForwardContext {
            first_row: 4 * rank as u64,
            ..PASS
        };
        let batch = gradients(&model, host, &pass, 8.0, &context).unwrap();
        (batch.loss(), named(&model, &batch))
    }) {
        assert!((loss - whole.loss()).abs() < 1e-6, "{loss}");
        assert_same(&grads, &named(&model, &whole));
    }
}
