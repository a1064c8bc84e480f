//! `[batch]`, `[loss]`, `[optimizer]` and `[schedule]`.

use couplet_model::presets;

use super::devices::Devices;
use super::page::{Page, epochs as in_epochs, number, numbers, text};
use super::translation::Translation;

/// Writes `[batch]`.
/// - devices: instead of what the command says.
pub(super) fn write_batch(page: &mut Page, from: &mut Translation, devices: Option<usize>) {
    let batch: u64 = from.arguments.number("batch-size", 64);
    let accum: u64 = from.arguments.number("accum-freq", 1);
    let devices = match (devices, &from.arguments.devices) {
        (Some(devices), _) => devices as u64,
        (None, Devices::Known(devices)) => *devices as u64,
        (None, Devices::Unknown(word)) => {
            let problem = format!(
                "the launcher starts `{word}` processes, and the batch is batch-size × processes: add --devices N"
            );
            from.arguments.problems.push(problem);
            1
        }
    };
    let global = batch.saturating_mul(devices).saturating_mul(accum);
    from.global_batch = global;
    page.table("batch");
    let factors = match (devices, accum) {
        (1, 1) => None,
        (devices, 1) => Some(format!("{devices} devices with {batch} each.")),
        (1, accum) => Some(format!("{batch} in each of {accum} accumulated steps.")),
        (devices, accum) => Some(format!(
            "{devices} devices with {batch} each, in {accum} accumulated steps."
        )),
    };
    if let Some(factors) = factors {
        page.comment(&factors);
    }
    page.key("global", global.to_string());
    if batch < global {
        page.key_with(
            "Pairs in one pass: as many as fit in memory, the result is the same.",
            "micro",
            batch.to_string(),
        );
    }
    if from.arguments.has("grad-checkpointing") {
        let spec = presets::find(&from.model_name());
        if spec.is_some_and(|spec| !spec.image.has_blocks()) {
            from.missing(
                "--grad-checkpointing",
                "not for a ResNet; choose a smaller batch.micro",
            );
        } else {
            page.key("recompute_blocks", "true");
        }
    }
}

/// Writes `[loss]`.
pub(super) fn write_loss(page: &mut Page, from: &Translation) {
    page.table("loss");
    let kind = if from.arguments.has("siglip") {
        "sigmoid"
    } else {
        "softmax"
    };
    page.key("kind", text(kind));
}

/// An optimizer's kind, with timm's or open_clip's defaults.
struct Defaults {
    kind: &'static str,
    lr: f64,
    betas: [f64; 2],
    eps: Option<f64>,
}

/// Source: open_clip_train `get_default_params`; timm's optimizers.
fn defaults(from: &mut Translation) -> Defaults {
    let name = from.arguments.text("opt").unwrap_or("adamw").to_lowercase();
    let timm = |kind, betas, eps| Defaults {
        kind,
        lr: 1e-3,
        betas,
        eps,
    };
    match name.as_str() {
        "timm/adamw" => return timm("adamw", [0.9, 0.999], Some(1e-8)),
        "timm/lamb" => return timm("lamb", [0.9, 0.999], Some(1e-6)),
        "timm/lion" => return timm("lion", [0.9, 0.99], None),
        "adamw" => {}
        _ => from.missing(
            "--opt",
            "not an optimizer of Couplet (adamw, lamb, lion): adamw instead",
        ),
    }
    let is_vit = from.model_name().to_lowercase().contains("vit");
    Defaults {
        kind: "adamw",
        lr: 5e-4,
        betas: [0.9, if is_vit { 0.98 } else { 0.999 }],
        eps: Some(if is_vit { 1e-6 } else { 1e-8 }),
    }
}

/// A warmup that is longer than the whole schedule never reaches the peak.
struct Warmup {
    /// As a length.
    length: String,
    /// The factor on the learning rate that gives the same rates.
    factor: f64,
}

#[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
fn warmup(from: &mut Translation, epochs: u64) -> Warmup {
    let steps: u64 = from.arguments.number("warmup", 10_000);
    let per_epoch = from
        .samples_per_epoch
        .map(|samples| samples as u64 / from.global_batch.max(1));
    match per_epoch.map(|per_epoch| per_epoch * epochs) {
        Some(total) if steps > total && total > 0 => Warmup {
            length: in_epochs(epochs),
            factor: total as f64 / steps as f64,
        },
        _ => Warmup {
            length: format!("{steps} steps"),
            factor: 1.0,
        },
    }
}

/// Writes `[optimizer]` and `[schedule]`.
pub(super) fn write_optimizer(page: &mut Page, from: &mut Translation) {
    let defaults = defaults(from);
    let epochs: u64 = from.arguments.number("epochs", 32);
    let skips = from.arguments.has("skip-scheduler");
    let warmup = warmup(from, epochs);
    let warmup = if skips { None } else { Some(warmup) };
    let lr: f64 = from.arguments.number("lr", defaults.lr);
    let beta1: f64 = from.arguments.number("beta1", defaults.betas[0]);
    let beta2: f64 = from.arguments.number("beta2", defaults.betas[1]);
    let eps: Option<f64> = from.arguments.number_given("eps");
    let decay: f64 = from.arguments.number("wd", 0.2);
    page.table("optimizer");
    page.key("kind", text(defaults.kind));
    match &warmup {
        Some(warmup) if warmup.factor < 1.0 => {
            let steps: u64 = from.arguments.number("warmup", 10_000);
            let remark = format!(
                "The rate that the last step has: the warmup to {} takes {steps} steps, more than the run has, in \
                 open_clip too.",
                number(lr)
            );
            page.comment(&remark);
            from.note(
                "--warmup",
                format!(
                    "the learning rate ends at {}: the warmup to {} takes {steps} steps, more \
                than the run has, in open_clip too; choose a shorter one",
                    number(lr * warmup.factor),
                    number(lr)
                ),
            );
            page.key("lr", number(lr * warmup.factor));
        }
        _ => page.key("lr", number(lr)),
    }
    page.key("betas", numbers(&[beta1, beta2]));
    if let Some(eps) = eps.or(defaults.eps).filter(|_| defaults.kind != "lion") {
        page.key("eps", number(eps));
    }
    page.key("weight_decay", number(decay));
    let clip: Option<f64> = from.arguments.number_given("grad-clip-norm");
    if let Some(clip) = clip.filter(|clip| *clip > 0.0) {
        page.key("clip_norm", number(clip));
    }
    let kinds = ["cosine", "const", "const-cooldown"];
    let kind = from.arguments.choice("lr-scheduler", &kinds);
    page.table("schedule");
    // A run that ends in its warmup has no cooldown.
    let is_warmup = warmup.as_ref().is_some_and(|warmup| warmup.factor < 1.0);
    let name = match kind {
        _ if skips || (is_warmup && kind == "const-cooldown") => "constant",
        "const" => "constant",
        "const-cooldown" => "constant-cooldown",
        _ => "cosine",
    };
    page.key("kind", text(name));
    page.key("length", text(&in_epochs(epochs)));
    if let Some(warmup) = &warmup {
        page.key("warmup", text(&warmup.length));
    }
    if name == "constant-cooldown" {
        cooldown(page, from);
    }
}

fn cooldown(page: &mut Page, from: &mut Translation) {
    let epochs: Option<u64> = from.arguments.number_given("epochs-cooldown");
    if let Some(epochs) = epochs {
        page.key("cooldown", text(&in_epochs(epochs)));
    } else {
        let problem = "--lr-scheduler const-cooldown: needs --epochs-cooldown";
        from.arguments.problems.push(problem.into());
    }
    page.key("end", number(from.arguments.number("lr-cooldown-end", 0.0)));
    page.key(
        "power",
        number(from.arguments.number("lr-cooldown-power", 1.0)),
    );
}
