//! Captions as COCO has them: one JSON file for all images.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Files, LabelledDataset, LabelledError, Split, Targets, part_of};

/// `source = "coco-captions"` in a dataset file. Source: Chen et al. 2015, "Microsoft COCO
/// Captions: Data Collection and Evaluation Server".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CocoCaptionsConfig {
    /// Such as `annotations/captions_val2017.json`.
    pub annotations: PathBuf,
    /// The folder of the images that it names.
    pub images: PathBuf,
    /// Captions of an image that count; by default all. The field's numbers count five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captions_per_image: Option<usize>,
}

#[derive(Deserialize)]
struct Document {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

impl CocoCaptionsConfig {
    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        let path = part_of(part, &self.annotations, None, (&self.annotations, "source"))?;
        let bytes = std::fs::read(path).map_err(LabelledError::io(path))?;
        let malformed = |message: String| LabelledError::malformed(path, message);
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let mut captions: HashMap<u64, Vec<String>> = HashMap::new();
        for annotation in document.annotations {
            let caption = annotation.caption.trim().to_string();
            captions
                .entry(annotation.image_id)
                .or_default()
                .push(caption);
        }
        let (mut files, mut targets) = (Vec::new(), Vec::new());
        for image in document.images {
            let name = &image.file_name;
            let mut own = captions
                .remove(&image.id)
                .ok_or_else(|| malformed(format!("{name} has no caption")))?;
            own.truncate(self.captions_per_image.unwrap_or(usize::MAX));
            if own.is_empty() {
                return Err(malformed("captions_per_image = 0 leaves none".into()));
            }
            files.push(self.images.join(name));
            targets.push(own);
        }
        if let Some(id) = captions.keys().next() {
            return Err(malformed(format!(
                "captions of an image {id} that is not listed"
            )));
        }
        if files.is_empty() {
            return Err(malformed("no images are listed".into()));
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
    fn captions_go_to_their_images() {
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
        let set = open(&format!(r#"{{{images}, "annotations": [{all}]}}"#)).unwrap();
        let captions = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let wanted = vec![captions(&["a", "b"]), captions(&["c"])];
        assert_eq!(*set.targets(), Targets::Captions(wanted));
        let one = caption(7, "a");
        let error = open(&format!(r#"{{{images}, "annotations": [{one}]}}"#)).unwrap_err();
        assert!(error.contains("3.jpg has no caption"), "{error}");
    }
}
