//! `couplet model download`, `couplet model push` and `couplet model list --pretrained`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use couplet_data::printable_path;
use couplet_eval::{DownloadListener, download, find_model};
use couplet_hub::{
    Environment, Hub, ModelName, Plan, Progress, PushOptions, hint, parse, pretrained,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct DownloadArguments {
    /// Names of models: `ViT-B-32@openai` and others of `couplet model list --pretrained`, `ViT-B/32`, or
    /// `hf:org/name[@revision]`
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    json: JsonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// Model to upload: a run's folder, a checkpoint, or a folder that `couplet model convert` wrote
    model: PathBuf,
    /// Repository of the Hugging Face Hub, `org/name`; it is created if it does not exist
    repository: String,
    /// Branch to commit to [default: main]
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// Make a repository that is created private
    #[arg(long)]
    private: bool,
    /// Summary of the commit [default: "Upload a model"]
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
}

/// Lists the weights that have a name.
pub(super) fn list(arguments: &JsonArguments) -> anyhow::Result<u8> {
    arguments.begin()?;
    let hub = Hub::from_environment(&Environment::of_process())?;
    let head = ["name", "activation", "licence", "commercial", "cached"];
    let mut table = Table::new(head.map(String::from).into());
    let mut rows = Vec::new();
    for one in pretrained() {
        let cached = hub.is_cached(&ModelName::Pretrained(one));
        let commercial = match one.licence.commercial {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let activation = match one.activation {
            couplet_hub::Activation::Gelu => "gelu",
            couplet_hub::Activation::QuickGelu => "quick-gelu",
        };
        rows.push(json!({
            "name": one.name(), "architecture": one.architecture, "tag": one.tag,
            "repository": one.repository, "link": one.link, "sha256": one.sha256,
            "licence": one.licence.name, "licence_page": one.licence.page,
            "commercial_use": one.licence.commercial, "activation": activation, "cached": cached,
        }));
        table.row(vec![
            one.name(),
            activation.into(),
            one.licence.name.clone(),
            commercial.into(),
            if cached { "yes" } else { "-" }.into(),
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!("\n--model takes these names, `hf:org/name`, and OpenAI's, such as `ViT-B/32`.");
    arguments.write(&rows)?;
    Ok(exit_code::DONE)
}

/// Downloads models, and prints where they are.
pub(super) fn run_download(arguments: &DownloadArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let mut found = Vec::new();
    for name in &arguments.names {
        let Some(parsed) = parse(name)? else {
            let hint = hint(name).unwrap_or_else(|| {
                "expected a name of `couplet model list --pretrained`, or hf:org/name".into()
            });
            bail!("{name}: {hint}");
        };
        let (path, fetched) = download(&parsed)?;
        println!("{}", printable_path(&path));
        found.push(json!({
            "name": name, "path": path, "commit": fetched.commit, "source": fetched.source,
            "licence": fetched.licence.map(|licence| licence.name),
        }));
    }
    arguments.json.write(&found)?;
    Ok(exit_code::DONE)
}

/// Uploads a model's folder.
pub(super) fn run_push(arguments: &PushArguments) -> anyhow::Result<u8> {
    let folder = find_model(&arguments.model)?;
    if !folder.is_dir() {
        let path = printable_path(&folder);
        bail!("{path}: not a folder; couplet model convert writes one");
    }
    let hub = Hub::from_environment(&Environment::of_process())?;
    let mut options = PushOptions {
        private: arguments.private,
        ..PushOptions::default()
    };
    if let Some(revision) = &arguments.revision {
        options.revision.clone_from(revision);
    }
    if let Some(message) = &arguments.message {
        options.message.clone_from(message);
    }
    let pushed = hub.push(
        &folder,
        &arguments.repository,
        &options,
        &mut Bar::default(),
    )?;
    printing::note(&format!(
        "{} files uploaded, {} there already",
        pushed.uploaded.len(),
        pushed.unchanged.len()
    ));
    println!("{}", pushed.url);
    Ok(exit_code::DONE)
}

/// Hears of the downloads of `--model NAME`.
pub(crate) fn listener() -> Box<dyn DownloadListener> {
    Box::<Bar>::default()
}

/// A bar for each file.
#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl Progress for Bar {
    fn started(&mut self, file: &str, already: u64, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let template = "{msg} {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let bar = bar.with_style(style).with_message(file.to_string());
        bar.set_position(already);
        self.0 = Some(bar);
    }

    fn advanced(&mut self, _: &str, done: u64, _: Option<u64>) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    fn finished(&mut self, _: &str) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }

    fn waiting(&mut self, reason: &str, pause: Duration) {
        let text = format!("{reason}; trying again in {} s", pause.as_secs());
        match &self.0 {
            Some(bar) => bar.suspend(|| printing::note(&text)),
            None => printing::note(&text),
        }
    }
}

impl DownloadListener for Bar {
    fn planned(&mut self, plan: &Plan) {
        if plan.is_cached() {
            return;
        }
        let size = (plan.bytes_to_download()).map_or_else(String::new, |bytes| {
            format!(" ({})", indicatif::HumanBytes(bytes))
        });
        let licence = plan.licence.as_ref();
        let terms = licence.map_or("unknown".to_string(), |licence| {
            format!("{}, {}", licence.name, licence.page)
        });
        let name = &plan.name;
        printing::note(&format!(
            "downloading {name} from {}{size}; licence: {terms}",
            plan.source
        ));
        if plan.forbids_commercial_use() {
            printing::note(&format!(
                "the licence of {name} forbids commercial use of these weights, and of what is trained from them"
            ));
        }
    }

    fn noted(&mut self, note: &str) {
        printing::note(note);
    }
}
