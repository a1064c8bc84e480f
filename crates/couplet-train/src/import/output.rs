//! `[[eval]]`, `[checkpoint]` and `[log]`.

use super::page::{Page, epochs, text};
use super::translation::Translation;

/// Writes `[[eval]]`.
pub(super) fn write_evals(page: &mut Page, from: &mut Translation) {
    if from.evaluates_held_out {
        let every: u64 = from.arguments.number("val-frequency", 1);
        page.entry("eval");
        page.key("kind", text("held-out"));
        page.key("every", text(&epochs(every)));
    }
    let every: u64 = from.arguments.number("zeroshot-frequency", 2);
    let datasets = [
        ("imagenet-val", "imagenet", "data/imagenet/val"),
        (
            "imagenet-v2",
            "imagenetv2",
            "data/imagenetv2-matched-frequency-format-val",
        ),
    ];
    for (flag, dataset, place) in datasets {
        let Some(images) = from.arguments.text(flag).map(str::to_string) else {
            continue;
        };
        let flag = format!("--{flag}");
        if every == 0 {
            from.note(&flag, "not evaluated, as --zeroshot-frequency is 0".into());
            continue;
        }
        let images = from.place(images.trim_end_matches('/'));
        page.entry("eval");
        page.comment(&format!(
            "Its images are looked for in {place}; open_clip's were in {images}"
        ));
        page.key("kind", text("zero-shot"));
        page.key("dataset", text(dataset));
        page.key("every", text(&epochs(every)));
        let folder = place.rsplit_once('/').map_or("data", |(folder, _)| folder);
        from.before_training(
            &flag,
            &format!(
                "mkdir -p {folder} && ln -s \"{}\" {place}",
                absolute(&images)
            ),
        );
    }
}

/// A link's target must not depend on where the link is; variables of a shell stay.
fn absolute(path: &str) -> String {
    let is_plain = !path.starts_with(['$', '~']);
    let absolute = std::path::absolute(path).ok().filter(|_| is_plain);
    absolute.map_or(path.to_string(), |path| path.display().to_string())
}

/// Writes `[checkpoint]`.
pub(super) fn write_checkpoint(page: &mut Page, from: &mut Translation) {
    let epochs_in_all: u64 = from.arguments.number("epochs", 32);
    let every: u64 = from.arguments.number("save-frequency", 1);
    page.table("checkpoint");
    let every = if every == 0 { epochs_in_all } else { every };
    page.key("every", text(&epochs(every)));
    if from.arguments.has("delete-previous-checkpoint") {
        page.key("keep", "1");
    } else {
        let all = epochs_in_all.div_ceil(every.max(1)).max(1);
        if all > 1 {
            page.comment("All of them, as open_clip does.");
        }
        page.key("keep", all.to_string());
    }
}

/// Writes `[log]`.
pub(super) fn write_log(page: &mut Page, from: &mut Translation) {
    let every: u64 = from.arguments.number("log-every-n-steps", 100);
    page.table("log");
    page.key(
        "every",
        text(&if every <= 1 {
            "1 step".into()
        } else {
            format!("{every} steps")
        }),
    );
    let report = from
        .arguments
        .text("report-to")
        .unwrap_or_default()
        .to_string();
    if report.contains("tensorboard") || report.contains("all") {
        page.key("tensorboard", "true");
    }
    if report.contains("wandb") || report.contains("all") {
        from.missing(
            "--report-to wandb",
            "metrics are in `metrics.jsonl` and TensorBoard event files",
        );
    }
}
