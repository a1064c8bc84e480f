//! A dataset that a program gives to a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `source = "custom"`: a dataset that a program gives to the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomConfig {
    /// What the program calls the dataset.
    #[schemars(extend("examples" = ["my-pairs"]))]
    pub name: String,
}

impl CustomConfig {
    /// What to say where no program gives the dataset.
    pub fn not_given(&self) -> String {
        format!(
            "`custom`: a program gives the dataset `{}` by value (`RunBuilder::dataset`); train with that \
             program, or choose another source",
            self.name
        )
    }
}
