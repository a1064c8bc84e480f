//! `couplet eval datasets`.

use std::path::Path;

use clap::Args;
use couplet_eval::{
    DatacompTask, DatasetConfig, DatasetSummary, built_in_datasets, datacomp_tasks,
};

use crate::commands::config_arguments::DataArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct DatasetsArguments {
    /// List the 38 evaluation tasks of DataComp instead, and why some cannot be scored
    #[arg(long)]
    datacomp: bool,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    pub(super) json: JsonArguments,
}

/// Lists the built-in datasets, and where their files are or should be.
pub(super) fn run(arguments: &DatasetsArguments) -> anyhow::Result<u8> {
    let root = arguments.data.root();
    if arguments.datacomp {
        return list_datacomp(root, &arguments.json);
    }
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
        table.row(vec![
            summary.name.clone(),
            summary.task.to_string(),
            classes,
            files(summary),
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!("");
    for summary in summaries.iter().filter(|summary| !summary.is_there) {
        if let Some(origin) = &summary.origin {
            say!("{}: get it from {origin}", summary.name);
        }
    }
    say!("\nDataComp's 38 tasks: couplet eval datasets --datacomp");
    say!("\nuse        couplet eval zero-shot --model MODEL --dataset NAME");
    Ok(exit_code::DONE)
}

/// Where a dataset's files are or should be.
fn files(summary: &DatasetSummary) -> String {
    match (&summary.path, summary.is_there) {
        (None, _) => "drawn by Couplet".to_string(),
        (Some(path), true) => path.display().to_string(),
        (Some(path), false) => format!("not at {}", path.display()),
    }
}

/// Lists DataComp's tasks: which built-in dataset each is, its metric, and where its files are or should be.
fn list_datacomp(root: Option<&Path>, json: &JsonArguments) -> anyhow::Result<u8> {
    let tasks = datacomp_tasks();
    let summary = |task: &DatacompTask| -> anyhow::Result<Option<DatasetSummary>> {
        let config = task
            .dataset
            .map(|name| DatasetConfig::read_in(name.as_ref(), root));
        Ok(config.transpose()?.map(|config| config.summary()))
    };
    let summaries = tasks.iter().map(summary);
    let summaries: Vec<Option<DatasetSummary>> = summaries.collect::<anyhow::Result<_>>()?;
    let values = tasks.iter().zip(&summaries).map(|(task, summary)| {
        let mut value = serde_json::to_value(task)?;
        value["path"] = serde_json::to_value(summary.as_ref().and_then(|own| own.path.as_ref()))?;
        value["is_there"] = summary.as_ref().is_some_and(|own| own.is_there).into();
        Ok(value)
    });
    json.write(&values.collect::<serde_json::Result<Vec<_>>>()?)?;
    let head = ["task", "dataset", "metric", "files"];
    let mut table = Table::new(head.map(String::from).into());
    for (task, summary) in tasks.iter().zip(&summaries) {
        table.row(vec![
            task.name.to_string(),
            task.dataset.unwrap_or("not scored").to_string(),
            task.metric.to_string(),
            summary.as_ref().map_or(String::new(), files),
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!("");
    for (task, summary) in tasks.iter().zip(&summaries) {
        match (task.unscored, summary) {
            (Some(why), _) => say!("{}: cannot be scored: {why}", task.name),
            (None, Some(summary)) if !summary.is_there => {
                say!("{}: get it from {}", task.name, task.origin);
            }
            _ => {}
        }
    }
    say!("\nuse        couplet eval suite MODEL DATASET… --data-root DIR");
    Ok(exit_code::DONE)
}
