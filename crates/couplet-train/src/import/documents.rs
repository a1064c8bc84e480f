//! Command lines of open_clip's and DataComp's documents, and what their configs say.

use super::tests::{get, imported_with, others};
use super::{ImportNoteKind, ImportOptions, import};

/// A document, its command, and what keys of the config are.
type Document = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const DOCUMENTS: [Document; 18] = [
    (
        "open_clip README: single process",
        r#"python -m open_clip_train.main \
    --save-frequency 1 \
    --zeroshot-frequency 1 \
    --report-to tensorboard \
    --train-data="/path/to/train_data.csv"  \
    --val-data="/path/to/validation_data.csv"  \
    --csv-img-key filepath \
    --csv-caption-key title \
    --imagenet-val=/path/to/imagenet/root/val/ \
    --warmup 10000 \
    --batch-size=128 \
    --lr=1e-3 \
    --wd=0.1 \
    --epochs=30 \
    --workers=8 \
    --model RN50"#,
        &[
            ("model.preset", "'RN50'"),
            ("data.train.path", "'/path/to/train_data.csv'"),
            ("data.val.path", "'/path/to/validation_data.csv'"),
            ("data.threads", "8"),
            ("batch.global", "128"),
            ("optimizer.lr", "1e-3"),
            ("optimizer.weight_decay", "0.1"),
            ("optimizer.betas", "[0.9, 0.999]"),
            ("schedule.length", "'30 epochs'"),
            ("eval.1.dataset", "'imagenet'"),
            ("eval.1.every", "'1 epoch'"),
            ("log.tensorboard", "true"),
        ],
    ),
    (
        "open_clip README: single node",
        r"cd open_clip/src
torchrun --nproc_per_node 4 -m open_clip_train.main \
    --train-data '/data/cc12m/cc12m-train-{0000..2175}.tar' \
    --train-num-samples 10968539 \
    --dataset-type webdataset \
    --batch-size 320 \
    --precision amp \
    --workers 4 \
    --imagenet-val /data/imagenet/validation/",
        &[
            ("model.preset", "'RN50'"),
            (
                "data.train.shards",
                "'/data/cc12m/cc12m-train-{0000..2175}.tar'",
            ),
            ("data.train.samples_per_epoch", "10968539"),
            ("data.train.stream", "-"),
            ("batch.global", "1280"),
            ("batch.micro", "320"),
            ("schedule.length", "'32 epochs'"),
        ],
    ),
    (
        "open_clip README: several nodes",
        r"cd open_clip/src
torchrun --nproc_per_node=4 \
    --rdzv_endpoint=$HOSTE_NODE_ADDR \
    -m open_clip_train.main \
    --train-data '/data/cc12m/cc12m-train-{0000..2175}.tar' \
    --train-num-samples 10968539 \
    --dataset-type webdataset \
    --batch-size 320 \
    --precision amp \
    --workers 4 \
    --imagenet-val /data/imagenet/validation/",
        &[("batch.global", "1280"), ("data.threads", "16")],
    ),
    (
        "open_clip README: SLURM",
        r#"#!/bin/bash -x
#SBATCH --nodes=32
#SBATCH --gres=gpu:4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --wait-all-nodes=1
#SBATCH --job-name=open_clip
#SBATCH --account=ACCOUNT_NAME
#SBATCH --partition PARTITION_NAME

eval "$(/path/to/conda/bin/conda shell.bash hook)" # init conda
conda activate open_clip
export CUDA_VISIBLE_DEVICES=0,1,2,3
export MASTER_PORT=12802

master_addr=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR=$master_addr

cd /shared/open_clip
export PYTHONPATH="$PYTHONPATH:$PWD/src"
srun --cpu_bind=v --accel-bind=gn python -u src/open_clip_train/main.py \
    --save-frequency 1 \
    --report-to tensorboard \
    --train-data="/data/LAION-400M/{00000..41455}.tar" \
    --warmup 2000 \
    --batch-size=256 \
    --epochs=32 \
    --workers=8 \
    --model ViT-B-32 \
    --name "ViT-B-32-Vanilla" \
    --seed 0 \
    --local-loss \
    --gather-with-grad"#,
        &[
            ("name", "'ViT-B-32-Vanilla'"),
            ("data.threads", "32"),
            ("batch.global", "32768"),
            ("batch.micro", "256"),
            ("schedule.warmup", "'2000 steps'"),
            ("optimizer.eps", "1e-6"),
        ],
    ),
    (
        "open_clip README: several sources",
        "python -m open_clip_train.main --train-data \
         '/data/cc12m/cc12m-train-{0000..2175}.tar::/data/LAION-400M/{00000..41455}.tar' --dataset-resampled \
         --train-num-samples 135646078 --dataset-type webdataset --batch-size 256",
        &[
            (
                "data.train.shards",
                "['/data/cc12m/cc12m-train-{0000..2175}.tar', '/data/LAION-400M/{00000..41455}.tar']",
            ),
            ("data.train.resample", "true"),
            ("data.train.samples_per_epoch", "135646078"),
        ],
    ),
    (
        "open_clip README: weighted sources, the flag with underscores",
        "python -m open_clip_train.main --train-data \
         '/data/cc12m/cc12m-train-{0000..2175}.tar::/data/LAION-400M/{00000..41455}.tar' --dataset-resampled \
         --train-num-samples 135646078 --batch-size 256 --train_data_upsampling_factors=0.001::0.01",
        &[
            ("data.train.source", "'mix'"),
            ("data.train.mix.1.weight", "0.01"),
        ],
    ),
    (
        "open_clip README: resuming",
        r#"python -m open_clip_train.main \
    --train-data="/path/to/train_data.csv" \
    --val-data="/path/to/validation_data.csv"  \
    --resume /path/to/checkpoints/epoch_K.pt"#,
        &[("model.preset", "'RN50'"), ("batch.global", "64")],
    ),
    (
        "open_clip README: patch dropout",
        "python -m open_clip_train.main --train-data a.csv --model ViT-B-16 --force-patch-dropout 0.",
        &[("model.image.patch_dropout", "0.0")],
    ),
    (
        "open_clip README: distillation",
        "python -m open_clip_train.main --train-data a.csv --model ViT-B-32 --distill-model ViT-L-14 \
         --distill-pretrained openai --batch-size 8 --accum-freq 1",
        &[("batch.global", "8")],
    ),
    (
        "open_clip README: gradient accumulation",
        "torchrun --nproc_per_node 8 -m open_clip_train.main --train-data a.csv --model ViT-B-32 \
         --batch-size 128 --accum-freq 4 --local-loss --gather-with-grad",
        &[("batch.global", "4096"), ("batch.micro", "128")],
    ),
    (
        "open_clip docs/clip_conceptual_captions.md",
        "python -u src/open_clip_train/main.py --model RN50 --train-data \
         '/cc/Train_GCC-training_output.csv' --val-data '/cc/Validation_GCC-1.1.0-Validation_output.csv' \
         --lr 1e-3 --wd 0.1 --epochs 30 --batch-size 128 --warmup 10000 --workers 8",
        &[("data.val.source", "'csv'"), ("optimizer.eps", "1e-8")],
    ),
    (
        "open_clip docs/clipa.md: augmentation and image size of a fine-tuning",
        r"torchrun --nproc_per_node 8 -m open_clip_train.main \
    --save-frequency 1 \
    --save-most-recent \
    --zeroshot-frequency 1 \
    --train-data '/path/to/laion_or_datacomp/{0000..0999}.tar' \
    --train-num-samples 131072000 \
    --dataset-type webdataset \
    --lr 5.12e-5 \
    --beta1 0.9 \
    --beta2 0.95 \
    --warmup 800 \
    --wd 0.2 \
    --batch-size 4096 \
    --aug-cfg scale='(0.4, 1.0)' color_jitter='(0.32, 0.32, 0.32, 0.08)' color_jitter_prob=0.8 gray_scale_prob=0.2 \
    --epochs 4 \
    --workers 6 \
    --model ViT-H-14 \
    --pretrained '/path/to/pretrained.pt' \
    --precision 'amp_bf16' \
    --ddp-static-graph \
    --local-loss \
    --gather-with-grad \
    --force-image-size 224 \
    --force-patch-dropout 0.3 \
    --grad-checkpointing \
    --log-every-n-steps 32 \
    --seed 0 \
    --logs ./logs/ \
    --imagenet-val '/path/to/imagenet/val'",
        &[
            ("model.weights", "'/path/to/pretrained.pt'"),
            ("model.image.image_size", "224"),
            ("model.image.patch_dropout", "0.3"),
            ("data.train.augment.color_jitter.brightness", "0.32"),
            ("data.train.augment.grayscale", "0.2"),
            ("batch.global", "32768"),
            ("batch.recompute_blocks", "true"),
            ("optimizer.betas", "[0.9, 0.95]"),
            ("log.every", "'32 steps'"),
        ],
    ),
    (
        "open_clip docs: a large run of LAION-2B from an object store",
        r#"#SBATCH --nodes 16
#SBATCH --ntasks-per-node 8
srun --comment laion --cpu_bind=v --accel-bind=gn python -m open_clip_train.main \
    --save-frequency 1 \
    --train-data="pipe:aws s3 cp s3://s-datasets/laion5b/laion2B-data/{000000..231349}.tar -" \
    --train-num-samples 135646078 \
    --dataset-type webdataset \
    --dataset-resampled \
    --warmup 2000 \
    --batch-size=416 \
    --epochs=97 \
    --lr 5e-4 \
    --workers=8 \
    --report-to wandb \
    --name "large" \
    --logs /fsx/logs \
    --model ViT-B-32 \
    --seed 0 \
    --ddp-static-graph \
    --local-loss \
    --gather-with-grad \
    --grad-checkpointing \
    --precision amp_bfloat16 \
    --resume 'latest' \
    --delete-previous-checkpoint"#,
        &[
            (
                "data.train.shards",
                "'s3://s-datasets/laion5b/laion2B-data/{000000..231349}.tar'",
            ),
            ("data.train.stream", "true"),
            ("batch.global", "53248"),
            ("checkpoint.keep", "1"),
            ("data.threads", "64"),
        ],
    ),
    (
        "open_clip docs: constant rate with cooldown",
        "python -m open_clip_train.main --train-data a.csv --model ViT-B-32 --lr-scheduler const-cooldown \
         --epochs 20 --epochs-cooldown 5 --lr-cooldown-end 1e-6 --lr-cooldown-power 2",
        &[
            ("schedule.kind", "'constant-cooldown'"),
            ("schedule.cooldown", "'5 epochs'"),
            ("schedule.power", "2.0"),
        ],
    ),
    (
        "open_clip: LiT, as its flags' help describes it",
        "torchrun --nproc_per_node=2 -m open_clip_train.main --train-data a.csv --model ViT-B-16 --lock-image \
         --lock-image-freeze-bn-stats --pretrained laion2b_s34b_b88k",
        &[
            ("freeze.image", "'all'"),
            ("model.weights", "'weights/ViT-B-16-laion2b_s34b_b88k'"),
        ],
    ),
    (
        "DataComp README: small scale",
        "torchrun --nproc_per_node $num_gpus train.py --scale small --data_dir /data/shards --output_dir $output_dir \
         --exp_name $exp_name",
        &[
            ("name", "'$exp_name'"),
            ("model.preset", "'ViT-B-32'"),
            ("data.train.shards", "'/data/shards/*.tar'"),
            ("data.train.samples_per_epoch", "2560000"),
            ("data.train.resample", "true"),
            ("batch.global", "4096"),
            ("batch.recompute_blocks", "true"),
            ("schedule.length", "'5 epochs'"),
            ("schedule.warmup", "'500 steps'"),
            ("checkpoint.every", "'5 epochs'"),
        ],
    ),
    (
        "DataComp README: two weighted folders, accumulated",
        "torchrun --nproc_per_node 8 train.py --scale=large --data_dir=/a::/b --data_weights=1::2 --output_dir=/o \
         --accum_freq=2 --precision amp_bfloat16 --num_checkpoints 10 --report_to_wandb --imagenet_val=/i",
        &[
            ("name", "'large_scale'"),
            ("model.preset", "'ViT-B-16'"),
            ("data.train.mix.0.shards", "'/a/*.tar'"),
            ("data.train.mix.1.weight", "2.0"),
            ("data.train.samples_per_epoch", "128000000"),
            ("batch.global", "8192"),
            ("batch.micro", "512"),
        ],
    ),
    (
        "DataComp: xlarge scale in SLURM",
        "#SBATCH --nodes=64\n#SBATCH --ntasks-per-node=8\nsrun --cpu_bind=v --accel-bind=gn python train.py \
         --scale xlarge --data_dir /data/{00000..99999}.tar --output_dir /logs --exp_name xl --workers 6",
        &[
            ("model.preset", "'ViT-L-14'"),
            ("data.train.shards", "'/data/{00000..99999}.tar'"),
            ("data.train.samples_per_epoch", "2560000000"),
            ("batch.global", "90112"),
            ("batch.micro", "176"),
            ("optimizer.lr", "1e-3"),
            ("optimizer.betas", "[0.9, 0.95]"),
            ("schedule.warmup", "'10000 steps'"),
        ],
    ),
];

/// Commands of the same documents that Couplet cannot train, and why.
const REFUSED: [(&str, &str, &str); 4] = [
    (
        "open_clip README: CoCa",
        r#"python -m open_clip_train.main --dataset-type "csv" --train-data "path/to/data/dir/train2014.csv" \
    --warmup 1000 --batch-size 128 --lr 1e-5 --wd 0.1 --epochs 1 --workers 3 --model "coca_ViT-L-14" \
    --report-to "wandb" --coca-contrastive-loss-weight 0 --coca-caption-loss-weight 1 --log-every-n-steps 100"#,
        "`coca_ViT-L-14` is none of the presets",
    ),
    (
        "open_clip README: a language model as the text tower",
        r#"python -m open_clip_train.main \
         --train-data="pipe:aws s3 cp s3://s-mas/cc3m/{00000..00329}.tar -" \
         --train-num-samples 3000000 \
         --val-data="pipe:aws s3 cp s3://s-mas/cc3m/{00330..00331}.tar -" \
         --val-num-samples 10000 --dataset-type webdataset --batch-size 256 --warmup 2000 --epochs 10 \
         --lr 5e-4 --precision amp --workers 6 --model "roberta-ViT-B-32" --lock-text \
         --lock-text-unlocked-layers 10 --name "10_unfrozen" --report-to "tensorboard" \
"#,
        "`roberta-ViT-B-32` is none of the presets",
    ),
    (
        "open_clip README: evaluation only",
        r#"python -m open_clip_train.main --val-data="/path/to/validation_data.csv" --model RN101 \
    --pretrained /path/to/checkpoints/epoch_K.pt"#,
        "without it open_clip evaluates only",
    ),
    (
        "DataComp: no such scale",
        "torchrun --nproc_per_node 8 train.py --scale huge --data_dir /d --output_dir /o",
        "--scale: not a flag of open_clip",
    ),
];

#[test]
fn command_lines_of_documents_have_their_configs() {
    for (document, command, expected) in DOCUMENTS {
        let (_, table) = imported_with(command, &ImportOptions::default());
        assert_eq!(others(&table, expected), [""; 0], "{document}");
        assert!(get(&table, "name").is_some(), "{document}");
    }
}

#[test]
fn what_a_document_trains_and_couplet_does_not_is_said() {
    for (document, command, reason) in REFUSED {
        let error = import(command, &ImportOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{document}: {error}");
    }
    let (distilled, _) = imported_with(DOCUMENTS[8].1, &ImportOptions::default());
    let missing = distilled
        .notes
        .iter()
        .filter(|note| note.kind == ImportNoteKind::Missing);
    let missing: Vec<&str> = missing.map(|note| note.flag.as_str()).collect();
    assert_eq!(missing, ["--distill-model", "--distill-pretrained"]);
}
