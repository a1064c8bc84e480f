//! The examples of every command.

/// Commands with their examples: what each does, and its command line.
pub(super) type Examples = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

pub(super) const ALL: &[Examples] = &[
    (
        &["import"],
        &[
            (
                "Take over the settings of an open_clip run",
                "couplet import logs/my-run",
            ),
            (
                "Translate a training command",
                "couplet import \"python -m open_clip_train.main --train-data train.csv --model ViT-B-32\"",
            ),
            (
                "Continue it, with the optimizer's moments",
                "couplet import logs/my-run --checkpoint logs/my-run/checkpoints/epoch_5.pt",
            ),
        ],
    ),
    (
        &["init"],
        &[
            (
                "A folder of images, a .txt next to each",
                "couplet init data/photos",
            ),
            (
                "Shards, with a held-out part",
                "couplet init 'data/train-*.tar' --val 'data/val-*.tar' --name cc3m",
            ),
        ],
    ),
    (
        &["train"],
        &[
            (
                "Train a small model on drawn shapes",
                "couplet train configs/shapes.toml",
            ),
            (
                "Change keys of the config",
                "couplet train configs/shapes.toml --set optimizer.lr=5e-4 --run-dir runs/low",
            ),
            (
                "Continue a run that was interrupted",
                "couplet train runs/shapes --resume",
            ),
        ],
    ),
    (
        &["plan"],
        &[
            (
                "Print parameters, steps and memory",
                "couplet plan configs/shapes.toml",
            ),
            (
                "Measure the speed too",
                "couplet plan configs/shapes.toml --measure",
            ),
        ],
    ),
    (
        &["sweep"],
        &[(
            "Run all trials, or continue with those that are left",
            "couplet sweep sweep.toml",
        )],
    ),
    (
        &["config", "schema"],
        &[(
            "Check and complete configs in an editor",
            "couplet config schema > config.schema.json",
        )],
    ),
    (
        &["config", "reference"],
        &[("Read the reference", "couplet config reference | less")],
    ),
    (
        &["config", "keys"],
        &[("List the keys of a table", "couplet config keys data.train")],
    ),
    (
        &["eval", "zero-shot"],
        &[
            (
                "Evaluate the best checkpoint of a run",
                "couplet eval zero-shot --model runs/shapes --dataset shapes",
            ),
            (
                "Write accuracies per class, and a picture of the confusions",
                "couplet eval zero-shot --model runs/shapes --dataset shapes --details details",
            ),
            (
                "Use class names and templates in another language",
                "couplet eval zero-shot --model ViT-B-32/ --dataset imagenet --classnames it.json#imagenet1k --templates it.txt",
            ),
        ],
    ),
    (
        &["eval", "classification"],
        &[(
            "Evaluate a fine-tuned model",
            "couplet eval classification --model runs/digits --dataset datasets/digits.toml",
        )],
    ),
    (
        &["eval", "retrieval"],
        &[(
            "Evaluate on captions",
            "couplet eval retrieval --model ViT-B-32/ --dataset datasets/coco-captions.toml",
        )],
    ),
    (
        &["eval", "linear-probe"],
        &[
            (
                "Search the regularization",
                "couplet eval linear-probe --model runs/digits --dataset datasets/digits.toml",
            ),
            (
                "Use scikit-learn's C",
                "couplet eval linear-probe --model runs/digits --dataset datasets/digits.toml -C 0.316",
            ),
        ],
    ),
    (
        &["eval", "datasets"],
        &[
            ("See which are here", "couplet eval datasets"),
            (
                "See DataComp's 38 tasks",
                "couplet eval datasets --datacomp --data-root datacomp",
            ),
        ],
    ),
    (
        &["eval", "knn"],
        &[(
            "Vote among 20 neighbors",
            "couplet eval knn --model runs/digits --dataset datasets/digits.toml -k 20",
        )],
    ),
    (
        &["eval", "few-shot"],
        &[
            (
                "Fit ridge regression to 1, 2, 4, 8 and 16 images of each class, three times each",
                "couplet eval few-shot --model runs/digits --dataset datasets/digits.toml",
            ),
            (
                "Fit logistic regression to 5 images of each class, ten times",
                "couplet eval few-shot --model runs/digits --dataset datasets/digits.toml -k 5 --seeds 10 --classifier logistic",
            ),
        ],
    ),
    (
        &["eval", "compositional"],
        &[
            (
                "Evaluate on SugarCrepe's files, with COCO's images",
                "couplet eval compositional --model ViT-B-32/ --data sugar-crepe/data --root coco/val2017",
            ),
            (
                "Evaluate on Winoground",
                "couplet eval compositional --model ViT-B-32/ --data winoground/examples.jsonl --root winoground/images",
            ),
        ],
    ),
    (
        &["eval", "suite"],
        &[(
            "Evaluate on several datasets and write a table",
            "couplet eval suite runs/digits digits.toml pets.toml --csv results.csv",
        )],
    ),
    (
        &["eval", "compare"],
        &[(
            "Compare two runs with the first",
            "couplet eval compare runs/a runs/b runs/c",
        )],
    ),
    (
        &["classify"],
        &[
            (
                "Choose among labels",
                "couplet classify --model runs/shapes --labels \"a red circle,a blue star\" photo.png",
            ),
            (
                "Average several prompts",
                "couplet classify --model runs/shapes --labels cat,dog --template \"a photo of a {}\" --template \"a drawing of a {}\" photos/",
            ),
        ],
    ),
    (
        &["embed"],
        &[
            (
                "Write the features of a folder's images",
                "couplet embed --model runs/shapes --images photos --out features.safetensors",
            ),
            (
                "Write those of texts for NumPy",
                "couplet embed --model runs/shapes --texts captions.txt --out texts.npy",
            ),
        ],
    ),
    (
        &["index"],
        &[
            (
                "Index a folder of images, or go on with it",
                "couplet index --model runs/shapes photos --out photos.index",
            ),
            (
                "Index shards",
                "couplet index --model runs/shapes 'data/train-*.tar' --out train.index",
            ),
        ],
    ),
    (
        &["search"],
        &[
            (
                "Search by words",
                "couplet search photos.index \"a red circle\"",
            ),
            (
                "Search by an image",
                "couplet search photos.index --image photo.jpg --limit 3",
            ),
        ],
    ),
    (
        &["serve"],
        &[
            (
                "Try a model in a browser, and let programs ask it",
                "couplet serve --model runs/shapes",
            ),
            (
                "With an index to search, on another port",
                "couplet serve --index photos.index --listen 127.0.0.1:8000",
            ),
        ],
    ),
    (
        &["watch"],
        &[
            ("Follow all runs in runs/", "couplet watch"),
            ("Follow a run", "couplet watch runs/shapes"),
        ],
    ),
    (
        &["bench", "step"],
        &[(
            "Measure steps of a ViT-B-32 in micro-batches of 16",
            "couplet bench step --model ViT-B-32 --batch 64 --micro 16",
        )],
    ),
    (
        &["bench", "ranks"],
        &[(
            "Measure ranks of 64 pairs each, here one; `mpirun -n 4` before it starts four",
            "couplet bench ranks --model ViT-Ti-8-32 --batch 64",
        )],
    ),
    (
        &["data", "check"],
        &[(
            "Decode every image and read every caption",
            "couplet data check configs/shapes.toml",
        )],
    ),
    (
        &["data", "stats"],
        &[(
            "Print sizes of images and lengths of captions",
            "couplet data stats configs/shapes.toml",
        )],
    ),
    (
        &["data", "bench"],
        &[(
            "Measure the speed of loading",
            "couplet data bench configs/shapes.toml",
        )],
    ),
    (
        &["data", "index"],
        &[(
            "Index shards before the first run",
            "couplet data index \"data/{0000..0127}.tar\"",
        )],
    ),
    (
        &["data", "pack"],
        &[(
            "Resize images and write them as shards",
            "couplet data pack configs/shapes.toml packed",
        )],
    ),
    (
        &["data", "shapes"],
        &[(
            "Write 100 images and their captions",
            "couplet data shapes shapes --samples 100",
        )],
    ),
    (
        &["tokenize"],
        &[
            ("Print token ids", "couplet tokenize \"a photo of a cat\""),
            (
                "Tokenize a file",
                "couplet tokenize --texts captions.txt --context-length 32",
            ),
        ],
    ),
    (
        &["tokenizer", "train"],
        &[(
            "Train a vocabulary of 8192 tokens",
            "couplet tokenizer train --texts captions.txt --vocab-size 8192 --out tokenizer.json",
        )],
    ),
    (
        &["runs"],
        &[
            ("List the runs in runs/", "couplet runs"),
            (
                "Those of a sweep, as JSON",
                "couplet runs runs/sweep --json",
            ),
        ],
    ),
    (
        &["report"],
        &[
            ("Show a run", "couplet report runs/shapes --out shapes.html"),
            (
                "Compare runs",
                "couplet report runs/a runs/b --out compared.html",
            ),
        ],
    ),
    (
        &["verify"],
        &[
            ("Check a run's files", "couplet verify runs/shapes"),
            (
                "Repeat 20 steps too",
                "couplet verify runs/shapes --replay 20",
            ),
        ],
    ),
    (
        &["completions"],
        &[
            (
                "Install completions for bash",
                "couplet completions bash > ~/.local/share/bash-completion/completions/couplet",
            ),
            (
                "For zsh, in a folder of fpath",
                "couplet completions zsh > ~/.zfunc/_couplet",
            ),
            (
                "For fish",
                "couplet completions fish > ~/.config/fish/completions/couplet.fish",
            ),
        ],
    ),
    (
        &["man"],
        &[(
            "Install pages for man",
            "couplet man --out ~/.local/share/man/man1",
        )],
    ),
    (
        &[],
        &[
            (
                "Train, then evaluate and use the model",
                "couplet train configs/shapes.toml",
            ),
            (
                "",
                "couplet eval zero-shot --model runs/shapes --dataset shapes",
            ),
            (
                "",
                "couplet classify --model runs/shapes --labels \"a red circle,a blue star\" photo.png",
            ),
        ],
    ),
];
