//! `couplet model`.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use couplet_eval::{Format, OnnxOptions, find_model};
use couplet_model::{
    ImagePool, ImageTowerSpec, Layout, ModelSource, ModelSpec, TextEncoder, TextPool,
    TokenizerSpec, TowerCost, VitSpec, presets,
};
use couplet_train::DeviceSetting;

use super::mixing::{self, MixArguments, SoupArguments};
use super::model_arguments::ModelOptions;
#[cfg(feature = "hub")]
use super::model_hub::{self, DownloadArguments, PushArguments};
use super::model_join::{self, JoinArguments};
use super::model_merge::{self, MergeArguments};
use super::onnx_run;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the presets that `model.preset` accepts, or the pretrained weights that have a name
    List(ListArguments),
    /// Print the architecture of a preset or a model, with parameters and GFLOPs per tower
    Describe(DescribeArguments),
    /// Convert a model to open_clip's or Hugging Face transformers' layout, or to ONNX
    Convert(ConvertArguments),
    /// Download models by name, and print where they are
    #[cfg(feature = "hub")]
    Download(DownloadArguments),
    /// Upload a model to the Hugging Face Hub
    #[cfg(feature = "hub")]
    Push(PushArguments),
    /// Mix the weights of models, or evaluate mixes along the line from one model to another
    Mix(MixArguments),
    /// Mix those of several fine-tuned models that are better together
    Soup(SoupArguments),
    /// Add the updates of an adapter in PEFT's form to its model
    Merge(MergeArguments),
    /// Join the image tower of one model with a text encoder of Hugging Face's
    Join(JoinArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// List the weights that `--model` and `model.weights` take by name, with their licences
    #[cfg(feature = "hub")]
    #[arg(long)]
    pretrained: bool,
    #[command(flatten)]
    json: JsonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// Preset, or model: a run's folder, a checkpoint, an open_clip or Hugging Face folder, a
    /// weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai or hf:org/name
    #[arg(required_unless_present = "named")]
    model: Option<PathBuf>,
    /// The same
    #[arg(
        id = "named",
        long = "model",
        value_name = "MODEL",
        conflicts_with = "model"
    )]
    named: Option<PathBuf>,
    /// Architecture of weights that come without one: a preset or an open_clip config file
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
    #[command(flatten)]
    json: JsonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArguments {
    /// Model to convert, unless --model gives it, and the folder to create
    #[arg(value_names = ["MODEL", "OUT"], num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// Model to convert: a run's folder, a checkpoint, an open_clip or Hugging Face folder, a
    /// weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai or hf:org/name
    #[arg(long)]
    model: Option<PathBuf>,
    /// Layout to write
    #[arg(long)]
    format: FormatName,
    /// Precisions of ONNX files to write, separated by commas [default: fp32]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    precision: Vec<OnnxPrecision>,
    /// Leave out the comparison of ONNX files with the model
    #[arg(long)]
    no_check: bool,
    /// Architecture of weights that come without one: a preset or an open_clip config file
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    /// For `open_clip.create_model_and_transforms("local-dir:OUT")`
    #[value(name = "open_clip", alias = "open-clip")]
    OpenClip,
    /// For `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`
    Hf,
    /// For ONNX Runtime, transformers.js and optimum
    Onnx,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnnxPrecision {
    /// 32 bits: `model.onnx`
    Fp32,
    /// Products in 16 bits: `model_fp16.onnx`
    Fp16,
    /// Weights of linear layers in 8 bits: `model_quantized.onnx`
    Int8,
}

impl ConvertArguments {
    fn layout(&self) -> anyhow::Result<Format> {
        let layout = match self.format {
            FormatName::OpenClip => Format::OpenClip,
            FormatName::Hf => Format::HuggingFace,
            FormatName::Onnx => {
                let is_given = |one| self.precision.contains(&one);
                return Ok(Format::Onnx(OnnxOptions {
                    fp32: self.precision.is_empty() || is_given(OnnxPrecision::Fp32),
                    fp16: is_given(OnnxPrecision::Fp16),
                    int8: is_given(OnnxPrecision::Int8),
                }));
            }
        };
        if !self.precision.is_empty() || self.no_check {
            bail!("--precision and --no-check are for --format onnx");
        }
        Ok(layout)
    }
}

pub(crate) fn run(command: &ModelCommand) -> anyhow::Result<u8> {
    match command {
        #[cfg(feature = "hub")]
        ModelCommand::List(arguments) if arguments.pretrained => model_hub::list(&arguments.json),
        ModelCommand::List(arguments) => list(&arguments.json),
        #[cfg(feature = "hub")]
        ModelCommand::Download(arguments) => model_hub::run_download(arguments),
        #[cfg(feature = "hub")]
        ModelCommand::Push(arguments) => model_hub::run_push(arguments),
        ModelCommand::Describe(arguments) => describe(arguments),
        ModelCommand::Mix(arguments) => mixing::run_mix(arguments),
        ModelCommand::Soup(arguments) => mixing::run_soup(arguments),
        ModelCommand::Merge(arguments) => model_merge::run(arguments),
        ModelCommand::Convert(arguments) => convert(arguments),
        ModelCommand::Join(arguments) => model_join::run(arguments),
    }
}

fn list(json: &JsonArguments) -> anyhow::Result<u8> {
    json.begin()?;
    let mut all = serde_json::Map::new();
    let head = [
        "preset",
        "image",
        "patch",
        "vision",
        "text",
        "embed",
        "activation",
    ];
    let mut table = Table::new(head.map(String::from).into());
    for name in presets::names() {
        let spec = presets::find(name).ok_or_else(|| anyhow!("preset {name} is missing"))?;
        all.insert(name.to_string(), spec_json(&spec)?);
        let patch = spec.image.patch_size();
        let blocks = spec.image.block_counts();
        let blocks: Vec<String> = blocks.iter().map(usize::to_string).collect();
        table.row(vec![
            name.to_string(),
            spec.image.image_size().to_string(),
            patch.map_or("-".to_string(), |size| size.to_string()),
            format!("{}x{}", blocks.join(","), spec.image.width()),
            format!("{}x{}", spec.text.layers, spec.text.width),
            spec.embed_dim.to_string(),
            spec.activation.name().to_string(),
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!(
        "\nvision and text: layers x width. The tokenizer is CLIP's, but for SigLIP's presets, whose files name theirs."
    );
    json.write(&all)?;
    Ok(exit_code::DONE)
}

fn describe(arguments: &DescribeArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let given = arguments.model.as_ref().or(arguments.named.as_ref());
    let given = given.ok_or_else(|| anyhow!("the model is missing"))?;
    let name = given.to_string_lossy();
    let preset = presets::find(&name).filter(|_| !given.exists());
    let (spec, source) = if let Some(spec) = preset {
        (spec, None)
    } else {
        let path = find_model(given)?;
        if !path.exists() {
            return Err(anyhow!(
                "{name}: neither a preset (see `couplet model list`) nor a path"
            ));
        }
        let source = couplet_model::inspect(&path, arguments.arch.as_deref())?;
        (source.spec.clone(), Some(source))
    };
    print_spec(&name, &spec);
    let mut json = spec_json(&spec)?;
    if let Some(source) = source {
        print_source(&source);
        json["weights"] = source.weights.display().to_string().into();
        json["preprocess"] = serde_json::to_value(&source.preprocess)?;
    }
    arguments.json.write(&json)?;
    Ok(exit_code::DONE)
}

/// An architecture, with what its towers cost.
fn spec_json(spec: &ModelSpec) -> anyhow::Result<serde_json::Value> {
    let cost = spec.cost();
    let tower =
        |cost: TowerCost| serde_json::json!({ "parameters": cost.parameters, "flops": cost.flops });
    Ok(serde_json::json!({
        "architecture": serde_json::to_value(spec)?,
        "image_tower": tower(cost.image),
        "text_tower": tower(cost.text),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "counts are printed in millions")]
fn print_spec(name: &str, spec: &ModelSpec) {
    let cost = spec.cost();
    say!("{name}");
    say!("  joint space    {} dimensions", spec.embed_dim);
    let tower = |kind: &str, cost: TowerCost, what: String| {
        say!(
            "  {kind:14} {:8.2} M parameters  {:8.2} GFLOPs  {what}",
            cost.parameters as f64 / 1e6,
            cost.flops / 1e9
        );
    };
    tower("image tower", cost.image, describe_image_tower(spec));
    tower("text tower", cost.text, describe_text_tower(spec));
    let both = TowerCost {
        parameters: cost.image.parameters + cost.text.parameters,
        flops: cost.image.flops + cost.text.flops,
    };
    let bias = spec.init_logit_bias.map_or("", |_| ", with a logit bias");
    tower("total", both, format!("for one image and one text{bias}"));
}

fn describe_image_tower(spec: &ModelSpec) -> String {
    match &spec.image {
        ImageTowerSpec::Vit(vit) => {
            let pool = match (vit.attention_pool, vit.pool) {
                (Some(pool), _) => format!("attention pool of {} queries", pool.queries),
                (None, ImagePool::Class) => "class token".to_string(),
                (None, ImagePool::Mean) => "mean of the patches".to_string(),
                (None, ImagePool::Map) => "MAP head".to_string(),
            };
            format!(
                "ViT at {} px, patches of {}, {} layers of width {}, {} heads, {}, {pool}",
                vit.image_size,
                vit.patch_size,
                vit.layers,
                vit.width,
                vit.heads,
                vit.activation.unwrap_or(spec.activation).name(),
            )
        }
        ImageTowerSpec::ResNet(resnet) => format!(
            "modified ResNet at {} px, {} blocks, width {}, attention pool of {} heads",
            resnet.image_size,
            resnet.layers.map(|n| n.to_string()).join("+"),
            resnet.width,
            resnet.heads
        ),
    }
}

fn describe_text_tower(spec: &ModelSpec) -> String {
    let text = &spec.text;
    let pool = match text.pool {
        TextPool::Argmax => "end token".to_string(),
        TextPool::First => "first token".to_string(),
        TextPool::Last => "last token".to_string(),
        TextPool::Eos { id } => format!("token {id}"),
        TextPool::Map { .. } => "MAP pool".to_string(),
        TextPool::Mean => "mean of the tokens".to_string(),
        TextPool::Pooler => "pooler".to_string(),
    };
    let encoder = match text.encoder {
        TextEncoder::Clip if text.causal => "causal",
        TextEncoder::Clip => "bidirectional",
        TextEncoder::Bert { .. } => "BERT",
        TextEncoder::Roberta { .. } => "RoBERTa",
        TextEncoder::XlmRoberta { .. } => "XLM-RoBERTa",
        TextEncoder::ModernBert { .. } => "ModernBERT",
    };
    format!(
        "{encoder} of {} tokens from {} ids, {} layers of width {}, {} heads, {}, {pool}",
        text.context_length,
        text.vocab_size,
        text.layers,
        text.width,
        text.heads,
        spec.text_activation().name(),
    )
}

fn print_source(source: &ModelSource) {
    let layout = match source.layout {
        Layout::OpenClip => "open_clip's",
        Layout::HuggingFace => "Hugging Face's",
        Layout::OpenAi => "OpenAI's",
    };
    say!(
        "  weights        {} ({layout} layout)",
        source.weights.display()
    );
    let tokenizer = match &source.tokenizer {
        TokenizerSpec::Clip { .. } => "CLIP's".to_string(),
        TokenizerSpec::File { path, .. } => path.display().to_string(),
        TokenizerSpec::Missing { name } => format!("{name}, which is missing"),
    };
    say!("  tokenizer      {tokenizer}");
    let preprocess = &source.preprocess;
    let resized = (preprocess.resize_size)
        .map_or_else(String::new, |side| format!(" to {side}, then cropped"));
    say!(
        "  preprocessing  mean {:?}, std {:?}, {}, {:?} side{resized}",
        preprocess.mean,
        preprocess.std,
        preprocess.interpolation.name(),
        preprocess.resize_mode
    );
}

fn convert(arguments: &ConvertArguments) -> anyhow::Result<u8> {
    let options = ModelOptions {
        arch: arguments.arch.clone(),
        set: Vec::new(),
        device: DeviceSetting::Flex,
        precision: None,
    };
    let (model, out) = match (&arguments.model, &arguments.paths[..]) {
        (Some(model), [out]) | (None, [model, out]) => (model, out),
        (Some(_), _) => bail!("give the folder to create, and the model only once"),
        (None, _) => bail!("give the model and the folder to create"),
    };
    let format = arguments.layout()?;
    let encoder = options.open_aloud(model)?;
    encoder.save(out, format)?;
    println!("{}", how_to_open(format, encoder.spec(), out));
    if matches!(format, Format::Onnx(_)) && !arguments.no_check {
        onnx_run::run(out, &encoder)?;
    }
    Ok(exit_code::DONE)
}

fn how_to_open(format: Format, spec: &ModelSpec, folder: &Path) -> String {
    let folder = folder.display();
    match format {
        Format::OpenClip => {
            format!("open_clip.create_model_and_transforms(\"local-dir:{folder}\")")
        }
        Format::Onnx(options) => {
            let suffix = options.suffixes().next().unwrap_or_default();
            format!("onnxruntime.InferenceSession(\"{folder}/onnx/model{suffix}.onnx\")")
        }
        Format::HuggingFace => {
            let (model, processor) = if spec.image.as_vit().is_some_and(VitSpec::is_siglip) {
                ("SiglipModel", "AutoProcessor")
            } else if spec.text.is_clip() {
                ("CLIPModel", "CLIPProcessor")
            } else {
                (
                    "VisionTextDualEncoderModel",
                    "VisionTextDualEncoderProcessor",
                )
            };
            format!(
                "transformers.{model}.from_pretrained(\"{folder}\"), \
                 {processor}.from_pretrained(\"{folder}\")"
            )
        }
    }
}
