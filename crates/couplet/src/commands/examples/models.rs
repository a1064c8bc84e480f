//! The examples of `couplet model`.

use super::list::Examples;

pub(super) const MODELS: &[Examples] = &[
    (
        &["model", "list"],
        &[
            ("List the presets", "couplet model list"),
            #[cfg(feature = "hub")]
            (
                "List pretrained weights by name",
                "couplet model list --pretrained",
            ),
        ],
    ),
    (
        &["model", "describe"],
        &[
            ("Describe a preset", "couplet model describe ViT-B-32"),
            ("Describe weights", "couplet model describe ViT-B-32.pt"),
        ],
    ),
    #[cfg(feature = "hub")]
    (
        &["model", "download"],
        &[
            (
                "Download OpenAI's ViT-B/32",
                "couplet model download ViT-B-32@openai",
            ),
            (
                "Download a repository of the Hugging Face Hub",
                "couplet model download hf:google/siglip2-base-patch16-224",
            ),
        ],
    ),
    #[cfg(feature = "hub")]
    (
        &["model", "push"],
        &[(
            "Upload a run's best checkpoint",
            "couplet model push runs/shapes my-name/shapes --private",
        )],
    ),
    (
        &["model", "mix"],
        &[
            (
                "Mix a fine-tuned model with the one that it began from",
                "couplet model mix ViT-B-32@openai runs/mine --weights 0.5,0.5 --out mixed",
            ),
            (
                "Evaluate mixes along the line between them, and write the best",
                "couplet model mix ViT-B-32@openai runs/mine --along 0,0.1,...,1 --dataset shapes --plot line.svg --out best",
            ),
        ],
    ),
    (
        &["model", "soup"],
        &[(
            "Mix those of a sweep's models that are better together",
            "couplet model soup runs/shapes-lr --dataset shapes-held-out --out soup",
        )],
    ),
    (
        &["model", "merge"],
        &[(
            "Add an adapter of PEFT to its model",
            "couplet model merge my-adapter merged --base ViT-B-32@openai",
        )],
    ),
    (
        &["model", "join"],
        &[(
            "Start a model for other languages from an image tower and XLM-RoBERTa",
            "couplet model join ViT-B-32/ xlm-roberta-base/ multilingual",
        )],
    ),
    (
        &["model", "convert"],
        &[
            (
                "Convert a run's best checkpoint for transformers",
                "couplet model convert runs/shapes shapes-hf --format hf",
            ),
            (
                "Convert OpenAI's weights for open_clip",
                "couplet model convert ViT-B-32.pt ViT-B-32 --format open_clip",
            ),
            (
                "Write ONNX files in 32 and in 8 bits",
                "couplet model convert runs/shapes shapes-onnx --format onnx --precision fp32,int8",
            ),
        ],
    ),
];
