use toml::{Table, Value};

use super::*;
use crate::config::{ConfigError, DeviceCheck, ResolvedRun};

/// Keys whose problems depend on files that are not there.
const OUTSIDE: [&str; 5] = ["data.train", "data.val", "model.weights", "eval", "device"];

/// The config of a command, which the config's own check accepts but for files that are not there.
pub(super) fn imported_with(command: &str, options: &ImportOptions) -> (Imported, Table) {
    let imported = import(command, options).unwrap_or_else(|error| panic!("{command}: {error}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    // No object store is asked.
    std::fs::write(&path, imported.config.replace("s3://", "/none/")).unwrap();
    let opened = ResolvedRun::open(&path, &[], DeviceCheck::Local);
    match opened {
        Ok(_) => {}
        Err(ConfigError::Problems { problems, .. }) => {
            for problem in problems {
                let is_outside = OUTSIDE.iter().any(|key| problem.key.starts_with(key));
                assert!(is_outside, "{problem}\n{}", imported.config);
            }
        }
        Err(error) => panic!("{error:?}\n{}", imported.config),
    }
    let table = imported.config.parse().unwrap();
    (imported, table)
}

pub(super) fn imported(command: &str) -> (Imported, Table) {
    imported_with(command, &ImportOptions::default())
}

/// The value of a key such as `model.preset` or `eval.0.kind`.
pub(super) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = match part.parse::<usize>() {
            Ok(index) => value.get(index)?,
            Err(_) => value.get(part)?,
        };
    }
    Some(value)
}

/// Asserts what keys of a config are, each as TOML; `-` for one that it has not.
pub(super) fn check(table: &Table, expected: &[(&str, &str)]) {
    assert_eq!(others(table, expected), [""; 0]);
}

/// The keys that are not as expected.
pub(super) fn others(table: &Table, expected: &[(&str, &str)]) -> Vec<String> {
    let other = |(key, value): &(&str, &str)| {
        let found = get(table, key);
        let wanted: Option<Table> =
            (*value != "-").then(|| format!("v = {value}").parse().unwrap());
        let wanted = wanted.as_ref().and_then(|wanted| wanted.get("v"));
        (found != wanted).then(|| format!("{key} = {found:?}, and not {value}"))
    };
    expected.iter().filter_map(other).collect()
}

#[test]
fn the_defaults_are_open_clips() {
    let (imported, table) = imported("python -m open_clip_train.main --train-data a.csv");
    check(
        &table,
        &[
            ("name", "'rn50'"),
            ("model.preset", "'RN50'"),
            ("data.train.source", "'csv'"),
            ("data.train.separator", "\"\\t\""),
            ("data.train.image_column", "'filepath'"),
            ("data.train.augment.random_resized_crop.scale", "[0.9, 1.0]"),
            ("data.threads", "4"),
            ("batch.global", "64"),
            ("batch.micro", "-"),
            ("optimizer.lr", "5e-4"),
            ("optimizer.betas", "[0.9, 0.999]"),
            ("optimizer.eps", "1e-8"),
            ("optimizer.weight_decay", "0.2"),
            ("optimizer.clip_norm", "-"),
            ("schedule.kind", "'cosine'"),
            ("schedule.length", "'32 epochs'"),
            ("schedule.warmup", "'10000 steps'"),
            ("checkpoint.keep", "32"),
            ("log.every", "'100 steps'"),
            ("eval", "-"),
        ],
    );
    assert_eq!(imported.notes, []);
}

#[test]
fn every_part_of_a_command_is_translated() {
    let (imported, table) = imported(
        "torchrun --nproc_per_node 4 --nnodes=2 -m open_clip_train.main -- --model ViT-B/32 --name a/b \
         --train-data 'pipe:aws s3 cp s3://x/{00..03}.tar -::y/{00..07}.tar' --train-num-samples 1_000_000 \
         --dataset-resampled --val-data z.tar --val-num-samples 500 --val-frequency 2 \
         --batch-size 256 --accum-freq 2 --precision amp_bf16 --grad-checkpointing --siglip \
         --lr-scheduler const-cooldown --epochs 10 --epochs-cooldown 2 --lr-cooldown-end 1e-6 --warmup 100 \
         --lock-image --lock-image-unlocked-groups 3 --grad-clip-norm 1 --force-image-size 160 \
         --force-patch-dropout 0.5 --force-quick-gelu --force-context-length 32 --image-mean 0.5 0.5 0.5 \
         --image-resize-mode squash --imagenet-val /i/val/ --zeroshot-frequency 5 --workers 8 --seed 3 \
         --aug-cfg scale='(0.4, 1.0)' color_jitter='(0.32, 0.32, 0.32, 0.08)' color_jitter_prob=0.8 \
         gray_scale_prob=0.2 --delete-previous-checkpoint --report-to wandb,tensorboard --local-loss \
         --distill-model ViT-L-14 --save-frequency 0",
    );
    check(
        &table,
        &[
            ("name", "'a-b'"),
            ("seed", "3"),
            ("precision", &value(&Precision::Bf16)),
            ("model.preset", "'ViT-B-32'"),
            ("model.activation", "'quick-gelu'"),
            ("model.init_logit_bias", "-10.0"),
            ("model.image.image_size", "160"),
            ("model.image.patch_dropout", "0.5"),
            ("model.text.context_length", "32"),
            ("model.preprocess.mean", "[0.5, 0.5, 0.5]"),
            ("model.preprocess.resize_mode", "'squash'"),
            ("data.threads", "32"),
            (
                "data.train.shards",
                "['s3://x/{00..03}.tar', 'y/{00..07}.tar']",
            ),
            ("data.train.stream", "true"),
            ("data.train.resample", "true"),
            ("data.train.samples_per_epoch", "1000000"),
            ("data.train.augment.random_resized_crop.scale", "[0.4, 1.0]"),
            ("data.train.augment.color_jitter.hue", "0.08"),
            ("data.train.augment.color_jitter.probability", "0.8"),
            ("data.train.augment.grayscale", "0.2"),
            ("data.val.max_samples", "500"),
            ("batch.global", "4096"),
            ("batch.micro", "256"),
            ("batch.recompute_blocks", "true"),
            ("loss.kind", "'sigmoid'"),
            ("optimizer.betas", "[0.9, 0.98]"),
            ("optimizer.clip_norm", "1.0"),
            ("schedule.kind", "'constant-cooldown'"),
            ("schedule.cooldown", "'2 epochs'"),
            ("schedule.end", "1e-6"),
            ("freeze.image", "'all but last 2 blocks'"),
            ("eval.0.kind", "'held-out'"),
            ("eval.0.every", "'2 epochs'"),
            ("eval.1.dataset", "'imagenet'"),
            ("eval.1.every", "'5 epochs'"),
            ("checkpoint.every", "'10 epochs'"),
            ("checkpoint.keep", "1"),
            ("log.tensorboard", "true"),
        ],
    );
    let flags = |kind| -> Vec<&str> {
        let notes = imported.notes.iter().filter(|note| note.kind == kind);
        notes.map(|note| note.flag.as_str()).collect()
    };
    assert_eq!(
        flags(ImportNoteKind::Missing),
        ["--report-to wandb", "--distill-model"]
    );
    assert_eq!(flags(ImportNoteKind::Needless), ["--local-loss"]);
    assert_eq!(flags(ImportNoteKind::ToDo), ["--imagenet-val"]);
    assert!(
        imported
            .config
            .contains("#   --distill-model: the run trains without a teacher")
    );
}

#[test]
fn upsampled_sources_are_a_mix() {
    let (_, table) = imported(
        "cd src\npython -m training.main --train-data a.tar::/b.tar --train-data-upsampling-factors 1::2.5 \
         --dataset-resampled --train-num-samples 1000 --warmup 5",
    );
    check(
        &table,
        &[
            ("data.train.source", "'mix'"),
            ("data.train.mix.0.shards", "'src/a.tar'"),
            ("data.train.mix.0.weight", "1.0"),
            ("data.train.mix.1.shards", "'/b.tar'"),
            ("data.train.mix.1.weight", "2.5"),
            ("data.train.resample", "true"),
            ("data.train.samples_per_epoch", "1000"),
        ],
    );
}

#[test]
fn a_warmup_longer_than_the_run_has_the_same_rates() {
    let (read, table) = imported(
        "python -m open_clip_train.main --train-data a.tar --train-num-samples 640 --epochs 5 --lr 1e-3",
    );
    // 50 steps of 10000.
    check(
        &table,
        &[("optimizer.lr", "5e-6"), ("schedule.warmup", "'5 epochs'")],
    );
    assert!(read.notes.iter().any(|note| note.flag == "--warmup"));
}

#[test]
fn weights_are_files_or_tags_to_download() {
    let command =
        "--train-data a.csv --model ViT-B-32-quickgelu --pretrained openai --csv-separator ,";
    let (read, table) = imported(command);
    check(
        &table,
        &[
            ("model.weights", "'weights/ViT-B-32-quickgelu-openai'"),
            ("data.train.separator", "','"),
        ],
    );
    assert!(
        read.notes
            .iter()
            .any(|note| note.text.contains("hf download timm/vit_base"))
    );
    let base = ImportOptions {
        base: Some("/base".into()),
        name: Some("own".into()),
        ..ImportOptions::default()
    };
    let command = "--train-data $D/a.csv --model RN50 --pretrained logs/x.pt";
    let (read, table) = imported_with(command, &base);
    check(
        &table,
        &[
            ("name", "'own'"),
            ("model.weights", "'/base/logs/x.pt'"),
            ("data.train.path", "'$D/a.csv'"),
        ],
    );
    assert!(
        read.notes
            .iter()
            .any(|note| note.text.contains("replace $D in the config"))
    );
    let (read, table) = imported_with(&format!("{command} --resume runs/epoch_3.pt"), &base);
    check(&table, &[("model.weights", "-")]);
    assert_eq!(read.resume.as_deref(), Some("/base/runs/epoch_3.pt"));
}

#[test]
fn a_params_file_is_translated_without_its_defaults_as_losses() {
    let params = "accum_freq: 1\naug_cfg: {'scale': (1.0, 1.0)}\nbatch_size: 8\nbeta1: 0.9\nbeta2: 0.98\n\
        checkpoint_path: ./logs/x/checkpoints\ncoca_caption_loss_weight: 2.0\ncsv_separator: \t\n\
        dataset_type: auto\ndevice: cpu\ndist_url: env://\nepochs: 3\neps: 1e-06\nlocal_loss: False\n\
        logs: ./logs/\nlr: 0.001\nmodel: ViT-B-32\nname: x\nprecision: fp32\nresume: None\nsiglip: False\n\
        train_data: t.csv\nwandb_project_name: open-clip\nwarmup: 2\nwd: 0.2\nworld_size: 2\n";
    let (read, table) = imported(params);
    check(
        &table,
        &[
            ("batch.global", "16"),
            ("data.train.separator", "\"\\t\""),
            ("data.train.augment.random_resized_crop.scale", "[1.0, 1.0]"),
            ("optimizer.eps", "1e-6"),
            ("precision", &value(&Precision::F32)),
            ("device", &value(&DeviceSetting::Flex)),
        ],
    );
    assert_eq!(read.notes, []);
}

#[test]
fn what_cannot_be_translated_is_listed_with_the_nearest_right_word() {
    let error = import(
        "torchrun --nproc_per_node $N -m training.main --train-data a.parquet --model ViT-B-23 --epoch 3 --lrr 1",
        &ImportOptions::default(),
    );
    let error = error.unwrap_err().to_string();
    for part in [
        "did you mean `ViT-B-32`?",
        "--lrr: not a flag of open_clip 3.3; did you mean `--lr`?",
        "--devices N",
        "add --dataset-type",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn the_page_of_flags_is_that_of_this_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/open-clip-flags.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        committed,
        flags_page(),
        "run: couplet import --flags > docs/open-clip-flags.md"
    );
}
