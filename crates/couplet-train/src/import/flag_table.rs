//! The table of open_clip's flags. Source: open_clip_train 3.3.0 `params.py`.

use Takes::{Any, Nothing, One};

/// How many values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    One,
    Any,
}

/// Flags that become keys of the config, or options of ours: name, values, keys, and what a reader should know.
pub(super) const TRANSLATED: &[(&str, Takes, &str, &str)] = &[
    (
        "train-data",
        One,
        "data.train.path, data.train.shards, data.train.mix",
        "`a::b` becomes a list of shards, or `source = \"mix\"` with upsampling factors; `pipe:aws s3 cp URL -` becomes the URL",
    ),
    (
        "train-data-upsampling-factors",
        One,
        "data.train.mix[].weight",
        "",
    ),
    (
        "val-data",
        One,
        "data.val, [[eval]] kind = \"held-out\"",
        "",
    ),
    (
        "train-num-samples",
        One,
        "data.train.samples_per_epoch",
        "needed only for a stream: shards that are not streamed are counted",
    ),
    (
        "val-num-samples",
        One,
        "data.val.max_samples",
        "without it 10,000 pairs are evaluated; open_clip evaluates all",
    ),
    (
        "dataset-type",
        One,
        "data.train.source",
        "`auto` is decided by the file's extension; `synthetic` becomes `shapes`",
    ),
    (
        "dataset-resampled",
        Nothing,
        "data.train.resample, data.train.stream",
        "draws shards with replacement",
    ),
    (
        "csv-separator",
        One,
        "data.train.separator",
        "open_clip's default is a tab, for `.csv` files too",
    ),
    ("csv-img-key", One, "data.train.image_column", ""),
    ("csv-caption-key", One, "data.train.caption_column", ""),
    (
        "imagenet-val",
        One,
        "[[eval]] dataset = \"imagenet\"",
        "the images are looked for where the dataset's file says: link or copy the folder there",
    ),
    (
        "imagenet-v2",
        One,
        "[[eval]] dataset = \"imagenetv2\"",
        "the images are looked for where the dataset's file says: link or copy the folder there",
    ),
    (
        "logs",
        One,
        "couplet train --run-dir DIR",
        "a run's folder is `runs/NAME` by default",
    ),
    (
        "name",
        One,
        "name",
        "by default the model's name in small letters, without a date",
    ),
    (
        "workers",
        One,
        "data.threads",
        "per device in open_clip, for the whole process here; 0 for one per core",
    ),
    (
        "batch-size",
        One,
        "batch.micro, batch.global",
        "per device in open_clip: `global` is batch size × devices × accum-freq",
    ),
    ("epochs", One, "schedule.length", ""),
    (
        "epochs-cooldown",
        One,
        "schedule.cooldown",
        "with `const-cooldown`",
    ),
    ("lr", One, "optimizer.lr", "5e-4 by default"),
    ("beta1", One, "optimizer.betas", "0.9 by default"),
    (
        "beta2",
        One,
        "optimizer.betas",
        "0.98 by default for a model with `vit` in its name, else 0.999",
    ),
    (
        "eps",
        One,
        "optimizer.eps",
        "1e-6 by default for a model with `vit` in its name, else 1e-8",
    ),
    (
        "wd",
        One,
        "optimizer.weight_decay",
        "0.2 by default; neither decays gains and biases",
    ),
    (
        "warmup",
        One,
        "schedule.warmup",
        "10000 steps by default, whatever the length",
    ),
    (
        "opt",
        One,
        "optimizer.kind",
        "`adamw`, `timm/adamw`, `timm/lamb` and `timm/lion`",
    ),
    (
        "skip-scheduler",
        Nothing,
        "schedule.kind = \"constant\"",
        "without warmup",
    ),
    (
        "lr-scheduler",
        One,
        "schedule.kind",
        "`cosine`, `const`, `const-cooldown`",
    ),
    (
        "lr-cooldown-end",
        One,
        "schedule.end",
        "with `const-cooldown`",
    ),
    (
        "lr-cooldown-power",
        One,
        "schedule.power",
        "with `const-cooldown`",
    ),
    (
        "save-frequency",
        One,
        "checkpoint.every",
        "in epochs; 0 writes only the last",
    ),
    (
        "zeroshot-frequency",
        One,
        "[[eval]] every",
        "in epochs, 2 by default; 0 for none",
    ),
    (
        "val-frequency",
        One,
        "[[eval]] every",
        "in epochs, 1 by default; 0 for none",
    ),
    (
        "resume",
        One,
        "couplet import --checkpoint FILE",
        "makes a run that `couplet train --resume` goes on with",
    ),
    (
        "precision",
        One,
        "precision",
        "`amp` is fp16 with loss scaling; parameters are fp32 in every precision, in `pure_bf16` too",
    ),
    (
        "model",
        One,
        "model.preset",
        "another model of open_clip: `couplet import --model-config FILE.json`",
    ),
    (
        "pretrained",
        One,
        "model.weights",
        "a file, or a tag whose weights are to be downloaded first",
    ),
    ("lock-image", Nothing, "freeze.image", ""),
    (
        "lock-image-unlocked-groups",
        One,
        "freeze.image",
        "1 group is the projection; here the last norm is trained with it",
    ),
    ("image-mean", Any, "model.preprocess.mean", ""),
    ("image-std", Any, "model.preprocess.std", ""),
    (
        "image-interpolation",
        One,
        "model.preprocess.interpolation",
        "`random` becomes bicubic",
    ),
    ("image-resize-mode", One, "model.preprocess.resize_mode", ""),
    (
        "aug-cfg",
        Any,
        "data.train.augment",
        "`scale`, `ratio`, `color_jitter`, `color_jitter_prob`, `gray_scale_prob`, `re_prob`",
    ),
    (
        "grad-checkpointing",
        Nothing,
        "batch.recompute_blocks",
        "not for a ResNet",
    ),
    ("force-context-length", One, "model.text.context_length", ""),
    (
        "force-image-size",
        Any,
        "model.image.image_size",
        "square images only",
    ),
    ("force-quick-gelu", Nothing, "model.activation", ""),
    ("force-patch-dropout", One, "model.image.patch_dropout", ""),
    ("accum-freq", One, "batch.global", "see `--batch-size`"),
    ("device", One, "device", "`cuda` becomes `auto`"),
    (
        "report-to",
        One,
        "log.tensorboard",
        "`wandb sync --sync-tensorboard` takes its event files",
    ),
    (
        "seed",
        One,
        "seed",
        "other random numbers than PyTorch's follow from it",
    ),
    ("grad-clip-norm", One, "optimizer.clip_norm", ""),
    ("lock-text", Nothing, "freeze.text", ""),
    (
        "lock-text-unlocked-layers",
        One,
        "freeze.text",
        "1 is the projection; here the last norm is trained with it",
    ),
    ("log-every-n-steps", One, "log.every", "100 by default"),
    (
        "delete-previous-checkpoint",
        Nothing,
        "checkpoint.keep",
        "1; without the flag all are kept",
    ),
    (
        "siglip",
        Nothing,
        "loss.kind = \"sigmoid\", model.init_logit_scale, model.init_logit_bias",
        "",
    ),
];

/// Flags without which nothing is lost: name, values, and why.
pub(super) const NEEDLESS: &[(&str, Takes, &str)] = &[
    ("cache-dir", One, "nothing is downloaded"),
    ("log-local", Nothing, "one process writes one log"),
    (
        "save-most-recent",
        Nothing,
        "`latest` always names the newest checkpoint",
    ),
    (
        "lock-image-freeze-bn-stats",
        Nothing,
        "the statistics of a frozen tower are frozen",
    ),
    (
        "local-loss",
        Nothing,
        "the loss is that of the whole batch, in rows that fit in memory",
    ),
    (
        "gather-with-grad",
        Nothing,
        "gradients are always those of the whole batch",
    ),
    (
        "force-custom-text",
        Nothing,
        "weights are read in both layouts",
    ),
    ("torchscript", Nothing, "the program is compiled"),
    ("torchcompile", Nothing, "the program is compiled"),
    ("trace", Nothing, "only for evaluation without training"),
    ("dist-url", One, "one process trains on one device"),
    ("dist-backend", One, "one process trains on one device"),
    ("debug", Nothing, "everything is logged that is known"),
    ("copy-codebase", Nothing, "a run's folder has its config"),
    ("horovod", Nothing, "one process trains on one device"),
    (
        "ddp-static-graph",
        Nothing,
        "one process trains on one device",
    ),
    (
        "no-set-device-rank",
        Nothing,
        "one process trains on one device",
    ),
    (
        "lock-text-freeze-layer-norm",
        Nothing,
        "the norms of frozen blocks are frozen",
    ),
    ("loss-dist-impl", One, "one process trains on one device"),
];

/// Flags without a counterpart: name, values, and what happens instead.
pub(super) const MISSING: &[(&str, Takes, &str)] = &[
    ("momentum", One, "no optimizer with this setting"),
    (
        "use-bn-sync",
        Nothing,
        "each micro-batch is normalized by itself, as each device's batch without the flag",
    ),
    (
        "pretrained-image",
        Nothing,
        "convert such weights and name them in model.weights",
    ),
    (
        "wandb-notes",
        One,
        "metrics are in `metrics.jsonl` and TensorBoard event files",
    ),
    (
        "wandb-project-name",
        One,
        "metrics are in `metrics.jsonl` and TensorBoard event files",
    ),
    ("coca-caption-loss-weight", One, "CoCa cannot be trained"),
    (
        "coca-contrastive-loss-weight",
        One,
        "CoCa cannot be trained",
    ),
    (
        "remote-sync",
        One,
        "copy the run's folder with a program of your own",
    ),
    (
        "remote-sync-frequency",
        One,
        "copy the run's folder with a program of your own",
    ),
    (
        "remote-sync-protocol",
        One,
        "copy the run's folder with a program of your own",
    ),
    ("distill-model", One, "the run trains without a teacher"),
    (
        "distill-pretrained",
        One,
        "the run trains without a teacher",
    ),
    (
        "use-bnb-linear",
        One,
        "linear layers have the run's precision",
    ),
];
