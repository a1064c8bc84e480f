//! COCO captions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Files, LabelledDataset, Split, Targets, split_path};
use crate::formats::{DataError, coco};

/// `source = "coco-captions"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoCaptionsConfig {
    /// The annotation file, such as `annotations/captions_val2017.json`.
    pub annotations: PathBuf,
    /// Folder of the images that the annotations name.
    pub images: PathBuf,
    /// How many captions of each image to use; all by default. Published results use five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captions_per_image: Option<usize>,
}

impl CocoCaptionsConfig {
    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let path = split_path(split, &self.annotations, None, "source")?;
        let most = self.captions_per_image.unwrap_or(usize::MAX);
        if most == 0 {
            return Err(DataError::key("captions_per_image", "must be at least 1"));
        }
        let (mut files, mut targets) = (Vec::new(), Vec::new());
        for mut image in coco::read(path)? {
            image.captions.truncate(most);
            files.push(self.images.join(image.file_name));
            targets.push(image.captions);
        }
        Ok(LabelledDataset {
            path: path.clone(),
            class_names: None,
            templates: None,
            images: Box::new(Files(files)),
            targets: Targets::Captions(targets),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> Result<LabelledDataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let annotations = folder.path().join("captions.json");
        std::fs::write(&annotations, json).unwrap();
        let table = CocoCaptionsConfig {
            annotations,
            images: "images".into(),
            captions_per_image: Some(2),
        };
        table.open(Split::Test).map_err(|error| error.to_string())
    }

    #[test]
    fn captions_are_grouped_by_image() {
        let images =
            r#""images": [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg"}]"#;
        let caption = |id, text| format!(r#"{{"image_id": {id}, "caption": "{text}", "id": 1}}"#);
        let all = [
            caption(3, "c"),
            caption(7, "a"),
            caption(7, "b\\n"),
            caption(7, "d"),
        ]
        .join(",");
        let dataset = open(&format!(r#"{{{images}, "annotations": [{all}]}}"#)).unwrap();
        let captions = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let wanted = vec![captions(&["a", "b"]), captions(&["c"])];
        assert_eq!(*dataset.targets(), Targets::Captions(wanted));
        let one = caption(7, "a");
        let error = open(&format!(r#"{{{images}, "annotations": [{one}]}}"#)).unwrap_err();
        assert!(error.contains("3.jpg has no caption"), "{error}");
    }
}
