//! `couplet eval datasets`.

use clap::Args;
use couplet_eval::{DatasetConfig, DatasetSummary, built_in_datasets};

use crate::commands::config_arguments::DataArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

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
    let head = ["name", "task", "classes", "files"];
    let mut table = Table::new(head.map(String::from).into());
    for summary in &summaries {
        let classes = summary
            .classes
            .map_or(String::new(), |count| count.to_string());
        let files = match (&summary.path, summary.is_there) {
            (None, _) => "drawn by Couplet".to_string(),
            (Some(path), true) => path.display().to_string(),
            (Some(path), false) => format!("not at {}", path.display()),
        };
        table.row(vec![
            summary.name.clone(),
            summary.task.to_string(),
            classes,
            files,
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!("");
    for summary in summaries.iter().filter(|summary| !summary.is_there) {
        if let Some(origin) = &summary.origin {
            say!("{}: get it from {origin}", summary.name);
        }
    }
    say!("\nuse        couplet eval zero-shot --model MODEL --dataset NAME");
    Ok(exit_code::DONE)
}
