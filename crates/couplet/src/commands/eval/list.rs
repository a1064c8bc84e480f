//! `couplet eval datasets`.

use clap::Args;
use couplet_eval::{DatasetConfig, DatasetSummary, built_in_datasets};

use crate::commands::config_arguments::DataArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct DatasetsArguments {
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    pub(super) json: JsonArguments,
}

/// Lists the built-in datasets, and where their files are or should be.
pub(super) fn run(arguments: &DatasetsArguments) -> anyhow::Result<u8> {
    let root = arguments.data.root();
    let summaries = built_in_datasets().map(|name| {
        let config = DatasetConfig::read_in(name.as_ref(), root)?;
        Ok(DatasetSummary {
            name: name.to_string(),
            ..config.summary()
        })
    });
    let summaries: Vec<DatasetSummary> = summaries.collect::<anyhow::Result<_>>()?;
    arguments.json.write(&summaries)?;
    println!("{:16}{:16}{:>7}  files", "name", "task", "classes");
    for summary in &summaries {
        let classes = summary.classes.map(|count| count.to_string());
        let files = match (&summary.path, summary.is_there) {
            (None, _) => "drawn by Couplet".to_string(),
            (Some(path), true) => path.display().to_string(),
            (Some(path), false) => format!("not at {}", path.display()),
        };
        println!(
            "{:16}{:16}{:>7}  {files}",
            summary.name,
            summary.task,
            classes.as_deref().unwrap_or("")
        );
        if let Some(origin) = summary.origin.as_ref().filter(|_| !summary.is_there) {
            println!("    get it from {origin}");
        }
    }
    println!("\nuse        couplet eval zero-shot --model MODEL --dataset NAME");
    Ok(exit_code::DONE)
}
