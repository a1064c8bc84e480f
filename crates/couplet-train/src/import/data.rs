//! `[data]`.

use std::path::Path;

use couplet_data::formats::count_rows;

use super::kind::Kind;
use super::page::{Page, number, numbers, text, texts};
use super::python::Literal;
use super::translation::Translation;

/// The limit of `data.threads`: params.txt does not say how many of the devices are in one machine.
const MOST_THREADS: usize = 1024;
/// Number of samples of `--dataset-type synthetic`. Source: open_clip `SyntheticDataset`.
const SYNTHETIC_SAMPLES: usize = 100;

/// Writes `[data]`, with the training data and the held-out pairs.
pub(super) fn write(page: &mut Page, from: &mut Translation) {
    let train = from.arguments.text("train-data").map(str::to_string);
    let Some(kind) = kind(from, "train-data", train.as_deref()) else {
        return;
    };
    from.kind = Some(kind);
    let workers: usize = from.arguments.number("workers", 4);
    let threads = (workers * from.arguments.local_devices).clamp(1, MOST_THREADS);
    page.table("data");
    page.key_with(
        "Decoding threads; 0 for one per core.",
        "threads",
        threads.to_string(),
    );
    page.table("data.train");
    let sources = train.as_deref().unwrap_or_default();
    let factors = from
        .arguments
        .text("train-data-upsampling-factors")
        .map(str::to_string);
    let resampled = from.arguments.has("dataset-resampled") && kind == Kind::WebDataset;
    let samples: Option<usize> = from.arguments.number_given("train-num-samples");
    if let (Kind::WebDataset, Some(samples)) = (kind, samples) {
        note_rounding(from, samples, workers);
    }
    from.samples_per_epoch = match kind {
        Kind::WebDataset => samples,
        Kind::Csv => count_rows(
            Path::new(&from.place(sources)),
            separator(from).parse().ok(),
        )
        .ok(),
        Kind::Synthetic => Some(samples.unwrap_or(SYNTHETIC_SAMPLES)),
    };
    if let (Kind::WebDataset, Some(factors)) = (kind, &factors) {
        mix(page, from, sources, factors, (resampled, samples));
    } else {
        source(page, from, kind, sources, samples);
        epoch(
            page,
            from,
            (resampled, samples.filter(|_| kind == Kind::WebDataset)),
            true,
        );
        augment(page, from);
    }
    held_out(page, from);
}

/// Says by how much open_clip's epochs in shards are longer: every worker of every device has as many whole
/// batches. Source: open_clip `get_wds_dataset`.
fn note_rounding(from: &mut Translation, samples: usize, workers: usize) {
    let accum: u64 = from.arguments.number("accum-freq", 1);
    let batch = usize::try_from(from.global_batch / accum.max(1)).unwrap_or(0);
    let (batch, workers) = (batch.max(1), workers.max(1));
    let batches = samples.div_ceil(batch).div_ceil(workers) * workers;
    let rounded = batches.saturating_mul(batch);
    if batches != samples / batch {
        from.note(
            "--train-num-samples",
            format!(
                "open_clip rounds an epoch up to {rounded} samples; data.train.samples_per_epoch = {rounded} gives \
                 its schedule where the data is a stream"
            ),
        );
    }
}

/// The separator of a CSV file: a tab by default, also of `.csv` files.
fn separator(from: &Translation) -> &str {
    match from.arguments.text("csv-separator") {
        None | Some("\\t") => "\t",
        Some(separator) => separator,
    }
}

/// What a path is. Source: open_clip `get_dataset_fn`.
fn kind(from: &mut Translation, flag: &str, path: Option<&str>) -> Option<Kind> {
    let types = ["auto", "webdataset", "csv", "synthetic"];
    let given = from.arguments.choice("dataset-type", &types);
    if given == "synthetic" {
        from.note(
            "--dataset-type",
            "synthetic: open_clip's equal gray images become Couplet's shapes".into(),
        );
        return Some(Kind::Synthetic);
    }
    let Some(path) = path else {
        let problem =
            "--train-data: is missing; without it open_clip evaluates only, as `couplet eval` does";
        from.arguments.problems.push(problem.into());
        return None;
    };
    let end = path.rsplit('.').next().unwrap_or_default();
    match (given, end) {
        ("webdataset", _) => Some(Kind::WebDataset),
        ("csv", _) | (_, "csv" | "tsv") => Some(Kind::Csv),
        // Of a pipe or a list of sources, the end says nothing.
        _ if path.contains(".tar") => Some(Kind::WebDataset),
        _ => {
            from.arguments.problems.push(format!(
                "--{flag}: `{path}` ends with neither .csv, .tsv nor .tar; add --dataset-type"
            ));
            None
        }
    }
}

/// The keys of one source.
fn source(page: &mut Page, from: &mut Translation, kind: Kind, path: &str, samples: Option<usize>) {
    page.key("source", text(kind.name()));
    match kind {
        Kind::WebDataset => {
            let shards: Vec<String> = path.split("::").map(|path| from.shards(path)).collect();
            page.key("shards", texts(&shards));
        }
        Kind::Csv => {
            let path = from.place(path);
            page.key("path", text(&path));
            let separator = separator(from).to_string();
            page.key("separator", text(&separator));
            let image = from.arguments.text("csv-img-key").unwrap_or("filepath");
            page.key("image_column", text(image));
            let caption = from.arguments.text("csv-caption-key").unwrap_or("title");
            page.key("caption_column", text(caption));
        }
        Kind::Synthetic => page.key("samples", samples.unwrap_or(SYNTHETIC_SAMPLES).to_string()),
    }
}

/// How much of the data an epoch has, and how it is drawn.
/// - has_stream: whether the source has the key `stream`; a mix has not.
fn epoch(
    page: &mut Page,
    from: &mut Translation,
    (resampled, samples): (bool, Option<usize>),
    has_stream: bool,
) {
    if let Some(samples) = samples {
        page.key("samples_per_epoch", samples.to_string());
    }
    if !resampled {
        return;
    }
    if has_stream && samples.is_some() {
        page.key_with(
            "Draws shards with replacement, as open_clip does.",
            "stream",
            "true",
        );
    } else if samples.is_none() {
        from.before_training(
            "--train-num-samples",
            "is missing; open_clip reads it from sizes.json: write data.train.samples_per_epoch",
        );
    }
    page.key("resample", "true");
}

/// Several sources with their weights.
fn mix(
    page: &mut Page,
    from: &mut Translation,
    sources: &str,
    factors: &str,
    drawn: (bool, Option<usize>),
) {
    let paths: Vec<&str> = sources.split("::").collect();
    let weights: Vec<Option<f64>> = factors
        .split("::")
        .map(|factor| factor.parse().ok())
        .collect();
    if weights.len() != paths.len() || weights.contains(&None) {
        from.arguments.problems.push(format!(
            "--train-data-upsampling-factors: `{factors}`: expected as many numbers as --train-data has sources, \
             {}, with `::` between them",
            paths.len()
        ));
        return;
    }
    page.key("source", text("mix"));
    epoch(page, from, drawn, false);
    augment(page, from);
    for (path, weight) in paths.iter().zip(weights.iter().flatten()) {
        page.entry("data.train.mix");
        source(page, from, Kind::WebDataset, path, None);
        page.key("weight", number(*weight));
    }
}

fn held_out(page: &mut Page, from: &mut Translation) {
    let Some(path) = from.arguments.text("val-data").map(str::to_string) else {
        return;
    };
    let every: u64 = from.arguments.number("val-frequency", 1);
    if every == 0 {
        from.note(
            "--val-data",
            "not evaluated, as --val-frequency is 0".into(),
        );
        return;
    }
    let Some(kind) = kind(from, "val-data", Some(&path)) else {
        return;
    };
    page.table("data.val");
    let samples: Option<usize> = from.arguments.number_given("val-num-samples");
    source(page, from, kind, &path, samples);
    if let (Some(samples), Kind::WebDataset) = (samples, kind) {
        page.key("max_samples", samples.to_string());
    }
    from.evaluates_held_out = true;
}

/// The entries of `--aug-cfg`.
fn aug_cfg(from: &mut Translation) -> Vec<(String, Literal)> {
    let mut entries = Vec::new();
    for literal in from.arguments.literals("aug-cfg") {
        match literal {
            // Of a params.txt.
            Literal::Dict(own) => entries.extend(own),
            Literal::Text(text) if text.contains('=') => {
                let (key, value) = text.split_once('=').unwrap_or_default();
                entries.push((key.to_string(), Literal::read(value)));
            }
            other => {
                let problem = format!("--aug-cfg: {other:?}: expected key=value");
                from.arguments.problems.push(problem);
            }
        }
    }
    entries.retain(|(_, value)| *value != Literal::None);
    entries
}

/// Writes `[data.train.augment]`. Source: open_clip `image_transform`, timm `create_transform`.
fn augment(page: &mut Page, from: &mut Translation) {
    let entries = aug_cfg(from);
    let find = |key: &str| {
        entries
            .iter()
            .find(|(own, _)| own == key)
            .map(|(_, value)| value)
    };
    let numbers_of = |key: &str| find(key).and_then(Literal::numbers);
    let uses_timm = find("use_timm") == Some(&Literal::Bool(true));
    let mut problems = Vec::new();
    let mut pair = |key: &str, default: [f64; 2]| match (find(key), numbers_of(key)) {
        (None, _) => default,
        (_, Some(list)) if list.len() == 2 => [list[0], list[1]],
        _ => {
            problems.push(format!(
                "--aug-cfg {key}: expected two numbers, such as (0.9, 1.0)"
            ));
            default
        }
    };
    let torchvision = [3.0 / 4.0, 4.0 / 3.0];
    let scale = pair("scale", [0.9, 1.0]);
    let ratio = pair("ratio", torchvision);
    let ratio = if uses_timm { ratio } else { torchvision };
    page.table("data.train.augment");
    page.key(
        "random_resized_crop",
        format!(
            "{{ scale = {}, ratio = {} }}",
            numbers(&scale),
            numbers(&ratio)
        ),
    );
    let probability = find("color_jitter_prob")
        .and_then(Literal::number)
        .filter(|_| !uses_timm);
    let jitter = numbers_of("color_jitter").filter(|_| uses_timm || probability.is_some());
    if let Some(mut jitter) = jitter {
        if let [one] = jitter[..] {
            jitter = vec![one; 3];
        }
        let names = ["brightness", "contrast", "saturation", "hue"];
        let mut parts: Vec<String> = (names.iter().zip(&jitter))
            .map(|(name, range)| format!("{name} = {}", number(*range)))
            .collect();
        parts.extend(probability.map(|share| format!("probability = {}", number(share))));
        page.key("color_jitter", format!("{{ {} }}", parts.join(", ")));
    }
    let share = |key: &str| {
        find(key)
            .and_then(Literal::number)
            .filter(|share| *share > 0.0)
    };
    if let Some(gray) = share("gray_scale_prob").filter(|_| !uses_timm) {
        page.key("grayscale", number(gray));
    }
    if let Some(erased) = share("re_prob").filter(|_| uses_timm) {
        page.comment("Erased with one color; open_clip erases with noise.");
        page.key(
            "random_erasing",
            format!("{{ probability = {} }}", number(erased)),
        );
    }
    let known = |key: &str| match key {
        "scale" | "use_timm" | "color_jitter" => true,
        "ratio" | "re_prob" => uses_timm,
        "color_jitter_prob" | "gray_scale_prob" => !uses_timm,
        _ => false,
    };
    for (key, _) in entries.iter().filter(|(key, _)| !known(key)) {
        from.missing(
            &format!("--aug-cfg {key}"),
            match key.as_str() {
                "ratio" | "re_prob" => "open_clip ignores it without use_timm=True",
                "color_jitter_prob" | "gray_scale_prob" => {
                    "open_clip ignores it with use_timm=True"
                }
                _ => "no augmentation with this setting",
            },
        );
    }
    from.arguments.problems.append(&mut problems);
}
