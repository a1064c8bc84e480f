//! DataComp's training command, which runs open_clip's with settings of its scale.
//! Source: DataComp `train.py` and `scale_configs.py`.

use super::devices::Devices;

/// Name, batch, learning rate, samples, warmup, model, and beta2 if it is not open_clip's.
type Scale = (
    &'static str,
    usize,
    &'static str,
    u64,
    u64,
    &'static str,
    Option<&'static str>,
);

const SCALES: [Scale; 5] = [
    ("debug", 1024, "1e-4", 128_000, 500, "ViT-B-32", None),
    ("small", 4096, "5e-4", 12_800_000, 500, "ViT-B-32", None),
    ("medium", 4096, "5e-4", 128_000_000, 500, "ViT-B-32", None),
    ("large", 8192, "5e-4", 1_280_000_000, 500, "ViT-B-16", None),
    (
        "xlarge",
        90_112,
        "1e-3",
        12_800_000_000,
        10_000,
        "ViT-L-14",
        Some("0.95"),
    ),
];

/// DataComp's flags that open_clip has too, with open_clip's names.
const SAME: [(&str, &str); 8] = [
    ("workers", "workers"),
    ("precision", "precision"),
    ("seed", "seed"),
    ("accum_freq", "accum-freq"),
    ("log_every_n_steps", "log-every-n-steps"),
    ("imagenet_val", "imagenet-val"),
    ("grad_clip_norm", "grad-clip-norm"),
    ("wandb_project_name", "wandb-project-name"),
];

/// Whether words are DataComp's arguments.
pub(super) fn is_datacomp(words: &[String]) -> bool {
    words
        .iter()
        .any(|word| word == "--scale" || word.starts_with("--scale="))
}

/// The arguments of the command of open_clip that it runs. What is wrong with them is left in, and reported
/// with open_clip's flags.
pub(super) fn expand(words: &[String], devices: &mut Devices) -> Vec<String> {
    let mut values: Vec<(String, Option<String>)> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches("--");
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, words.next_if(|next| !next.starts_with("--")).cloned()),
        };
        values.push((name.replace('-', "_"), value));
    }
    let mut take = |name: &str| {
        let at = values.iter().position(|(own, _)| own == name)?;
        Some(values.remove(at).1.unwrap_or_default())
    };
    let scale = take("scale").unwrap_or_default();
    let mut made = vec![
        "--ddp-static-graph".to_string(),
        "--local-loss".to_string(),
        "--gather-with-grad".to_string(),
        "--grad-checkpointing".to_string(),
        "--dataset-type=webdataset".to_string(),
        "--dataset-resampled".to_string(),
    ];
    let mut put = |name: &str, value: &str| made.push(format!("--{name}={value}"));
    let folders = take("data_dir").unwrap_or_default();
    let shards: Vec<String> = folders.split("::").map(shards).collect();
    put("train-data", &shards.join("::"));
    if let Some(weights) = take("data_weights") {
        put("train-data-upsampling-factors", &weights);
    }
    let name = take("exp_name").unwrap_or_else(|| format!("{scale}_scale"));
    put("name", &name);
    if let Some(folder) = take("output_dir") {
        put("logs", &folder);
    }
    let epochs = take("num_checkpoints").unwrap_or_else(|| "5".into());
    put("epochs", &epochs);
    put(
        "save-frequency",
        &take("save_frequency").unwrap_or_else(|| "0".into()),
    );
    if let Some(resume) = take("resume").filter(|path| path != "latest") {
        put("resume", &resume);
    }
    let known = SCALES.iter().find(|(own, ..)| *own == scale);
    if let Some((_, batch, lr, samples, warmup, model, beta2)) = known {
        let epochs: u64 = epochs.parse().unwrap_or(1);
        put("train-num-samples", &(samples / epochs.max(1)).to_string());
        put("lr", lr);
        put("warmup", &warmup.to_string());
        put("model", model);
        if let Some(beta2) = beta2 {
            put("beta2", beta2);
        }
        // The batch is the scale's, whatever the number of devices.
        if let Devices::Unknown(_) = devices {
            *devices = Devices::Known(1);
        }
        let accum = pass_accum(take("accum_freq"), &mut put);
        let count = if let Devices::Known(count) = devices {
            *count
        } else {
            1
        };
        put("batch-size", &(batch / (count * accum).max(1)).to_string());
    } else {
        // No scale of DataComp.
        put("scale", &scale);
    }
    if take("report_to_wandb").is_some() {
        put("report-to", "wandb");
    }
    // Shards that it wrote itself.
    take("use_cached_shards");
    for (own, name) in SAME {
        if let Some(value) = take(own) {
            put(name, &value);
        }
    }
    for (name, value) in values {
        made.push(format!("--{name}"));
        made.extend(value);
    }
    made
}

/// Passes on `--accum_freq`, which the batch of a device depends on.
fn pass_accum(accum: Option<String>, put: &mut impl FnMut(&str, &str)) -> usize {
    let Some(accum) = accum else {
        return 1;
    };
    put("accum-freq", &accum);
    accum.parse().unwrap_or(1)
}

/// The shards of a folder.
fn shards(folder: &str) -> String {
    if folder.contains(".tar") {
        folder.to_string()
    } else {
        format!("{}/*.tar", folder.trim_end_matches('/'))
    }
}
