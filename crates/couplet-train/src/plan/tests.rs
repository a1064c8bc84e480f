use burn::tensor::Device;
use couplet_model::{Clip, ModelCost};

use super::memory::memory_warning;
use super::{RanksOptions, RunPlan};
use crate::config::{ConfigError, DeviceCheck, ResolvedRun};
use crate::device::DeviceSetting;

fn read(set: &[&str], machine: DeviceCheck) -> Result<ResolvedRun, ConfigError> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/shapes.toml");
    // Paths of datasets are relative to the workspace's folder, so evaluations are removed.
    let own = ["device=flex", "eval=[]", "checkpoint.best="];
    let set: Vec<String> = own.iter().chain(set).map(ToString::to_string).collect();
    ResolvedRun::open(path.as_ref(), &set, machine)
}

fn run(set: &[&str]) -> ResolvedRun {
    read(set, DeviceCheck::Local).unwrap()
}

fn plan(set: &[&str]) -> RunPlan {
    run(set).plan(Some(10))
}

#[expect(clippy::cast_precision_loss, reason = "a small model")]
fn values(count: u64) -> f64 {
    count as f64
}

fn bytes(plan: &RunPlan, name: &str) -> f64 {
    let part = plan.memory.iter().find(|part| part.name == name);
    part.map_or(0.0, |part| part.bytes)
}

#[test]
fn a_step_costs_three_forward_passes_by_default() {
    let plan = plan(&[]);
    let all = plan.model.image.parameters + plan.model.text.parameters;
    assert_eq!(plan.trained_parameters, all + 1);
    assert!((plan.step_flops / plan.forward_flops - 3.0).abs() < 1e-9);
    assert_eq!(plan.samples(), plan.total_steps * 64);
    assert_eq!(
        bytes(&plan, "moments"),
        8.0 * values(plan.trained_parameters)
    );
    assert_eq!(bytes(&plan, "average of the weights"), 0.0);
}

#[test]
fn micro_batches_cost_another_forward_pass_and_less_memory() {
    let (whole, parts) = (
        plan(&["batch.global=256"]),
        plan(&["batch.global=256", "batch.micro=64"]),
    );
    assert!((parts.step_flops / parts.forward_flops - 4.0).abs() < 1e-9);
    assert!(bytes(&parts, "activations") < bytes(&whole, "activations") / 3.0);
    assert_eq!(bytes(&parts, "gradients"), 2.0 * bytes(&whole, "gradients"));
    let again = plan(&["batch.recompute_blocks=true"]);
    assert!((again.step_flops / again.forward_flops - 4.0).abs() < 1e-9);
    assert!(bytes(&again, "activations") < bytes(&plan(&[]), "activations") / 1.5);
    // Frozen blocks are not recomputed: only one of four is.
    let last = "freeze.image=all but last 1 block";
    let frozen = plan(&["batch.recompute_blocks=true", last]);
    let image = frozen.model.image.flops;
    let text = frozen.forward_flops - image;
    let expected = image * (1.0 + 3.0 / 4.0) + 4.0 * text;
    assert!((frozen.step_flops / expected - 1.0).abs() < 1e-9);
    assert!(bytes(&frozen, "activations") < bytes(&again, "activations"));
}

#[test]
fn dropped_patches_cost_nothing() {
    let all = plan(&[]);
    let half = plan(&["model.image.patch_dropout=0.5"]);
    let text = all.forward_flops - all.model.image.flops;
    let spec = run(&["model.image.patch_dropout=0.5"]).config.model.spec();
    let expected = 3.0 * (spec.image_train_flops() + text);
    assert!((half.step_flops / expected - 1.0).abs() < 1e-9);
    assert_eq!(half.forward_flops, all.forward_flops);
    // 1 + 8 of 1 + 16 tokens remain, but all patches are embedded.
    let ratio = spec.image_train_flops() / spec.image_flops();
    assert!((9.0 / 17.0..0.6).contains(&ratio), "{ratio}");
}

#[test]
fn a_run_on_another_machine_can_be_planned() {
    let set = ["device=cuda:999", "precision=bf16"];
    assert!(read(&set, DeviceCheck::Local).is_err());
    let run = read(&set, DeviceCheck::Skip).unwrap();
    let plan = run.plan(None);
    assert_eq!(plan.device, DeviceSetting::Cuda(999));
    assert_eq!(run.measure_speed(&plan).unwrap_err().argument, "device");
}

#[test]
fn a_frozen_tower_costs_only_its_forward_pass() {
    let frozen = plan(&[
        "freeze.image=all",
        "ema.decay=0.99",
        "optimizer.kind=lion",
        "optimizer.eps=",
    ]);
    let image = plan(&[]).model.image;
    let text = frozen.forward_flops - image.flops;
    assert!((frozen.step_flops - image.flops - 3.0 * text).abs() < 1e-6 * text);
    assert_eq!(frozen.trained_parameters, frozen.model.text.parameters + 1);
    assert_eq!(
        bytes(&frozen, "moments"),
        4.0 * values(frozen.trained_parameters)
    );
    assert!(bytes(&frozen, "average of the weights") > 0.0);
}

#[test]
fn too_little_memory_is_reported_before_the_run() {
    assert_eq!(memory_warning(1e9, 1_000_000_001, 77, ""), None);
    let warning = memory_warning(2.0 * 1024.0 * 1024.0, 1 << 20, 77, "lower batch.micro").unwrap();
    assert!(
        warning.contains("about 2 MiB more, but only 1 MiB") && warning.contains("batch.micro")
    );
    let model = Clip::init(&run(&[]).config.model.spec(), 0, &Device::flex().autodiff());
    assert_eq!(run(&[]).memory_warning(&model, false), None);
    let huge = run(&[
        "data.train.samples=100000000",
        "batch.global=50000000",
        "schedule.warmup=1 step",
    ]);
    assert!(huge.memory_warning(&model, false).is_some());
}

#[test]
fn speed_is_measured_by_steps() {
    let run = run(&["batch.global=16"]);
    assert!(run.measure_speed(&run.plan(None)).unwrap() > 1.0);
}

fn options(ranks: usize) -> RanksOptions {
    RanksOptions {
        ranks,
        ranks_per_node: None,
        network: None,
        local: None,
    }
}

#[test]
fn a_rank_has_its_part_of_the_batch() {
    let run = run(&["batch.global=256", "batch.micro=128"]);
    let (one, whole) = (
        run.plan_ranks(Some(10), &options(1)).unwrap(),
        run.plan(Some(10)),
    );
    assert_eq!((&one.rank, one.nodes()), (&whole, 1));
    let four = run.plan_ranks(Some(10), &options(4)).unwrap();
    assert_eq!((four.rank.batch, four.rank.micro_batch), (64, 64));
    // A single micro-batch needs no pass for features.
    assert!((four.rank.step_flops / whole.step_flops - 0.75).abs() < 1e-9);
    let spec = run.config.model.spec();
    let of_all = bytes(&four.rank, "features of all ranks");
    assert_eq!(of_all, values(4 * 4 * 256 * spec.embed_dim as u64));
    let sent = bytes(&four.rank, "gradients on their way to other ranks");
    assert_eq!(sent, 0.0, "on a CPU, the gradients themselves");
    assert!(bytes(&four.rank, "pixels of a batch") < bytes(&whole, "pixels of a batch") / 3.9);
}

#[test]
fn ranks_that_cannot_share_a_batch_are_answered_with_those_that_can() {
    let message = |batch: &str, ranks| {
        let error = run(&[batch]).plan_ranks(None, &options(ranks)).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        message("batch.global=24", 5),
        "--ranks 5: does not divide batch.global = 24; possible are 1, 2, 4, 8"
    );
    assert_eq!(
        message("batch.global=24", 3),
        "--ranks 3: does not divide the 8 parts of a batch; possible are 1, 2, 4, 8, or 3 with batch.parts = 3"
    );
    let more = run(&["batch.global=24", "batch.parts=12"]);
    assert_eq!(more.plan_ranks(None, &options(3)).unwrap().parts, 12);
    assert!(message("batch.global=256", 128).contains("the 64 parts"));
    assert!(message("batch.global=24", 0).contains("batch.global"));
}

#[test]
fn ranks_are_predicted_from_the_speed_of_one() {
    let run = run(&["batch.global=256"]);
    let plan = |options: &RanksOptions| run.plan_ranks(Some(10), options).unwrap();
    let one = plan(&options(1)).predict(100.0);
    assert_eq!(
        (one.samples_per_second, one.strong_efficiency),
        (100.0, 1.0)
    );
    let four = plan(&options(4));
    let work = four.work(100.0);
    // The text tower is the larger one, and its gradients travel behind the image tower's backward pass.
    let ModelCost { image, text } = &four.rank.model;
    assert!(text.parameters > image.parameters);
    assert!((work.early_bytes / 4.0 - values(text.parameters)).abs() < 1.0);
    // Two of the three passes' arithmetic are the backward pass.
    let share = 2.0 * image.flops / (3.0 * four.rank.forward_flops);
    assert!((work.hiding_seconds / (0.64 * share) - 1.0).abs() < 1e-9);
    let (near, far) = (
        four.predict(100.0),
        plan(&RanksOptions {
            ranks_per_node: Some(1),
            network: Some(1e6),
            ..options(4)
        }),
    );
    assert!(
        (300.0..400.0).contains(&near.samples_per_second),
        "{near:?}"
    );
    assert_eq!((four.nodes(), far.nodes()), (1, 4));
    assert_eq!((four.ranks_per_cores(), far.ranks_per_cores()), (4, 1));
    assert!(far.predict(100.0).samples_per_second < 0.5 * near.samples_per_second);
}
