//! Why the features of images or texts cannot be used.

use std::path::{Path, PathBuf};

use couplet_data::Skipped;

/// Images or texts that an error lists.
const LISTED: usize = 10;

/// Why the images of a dataset have no features.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// Metrics over the remaining images could not be compared with those of other models.
    #[error(
        "{}: {} of {images} images cannot be used; replace them or remove them from the dataset, because \
         metrics of fewer images could not be compared{}",
        path.display(), bad.len(), list(bad)
    )]
    Unusable {
        /// The dataset's location.
        path: PathBuf,
        /// The number of images in the dataset.
        images: usize,
        bad: Vec<Skipped>,
    },
    #[error("{}: images have no usable features", path.display())]
    NotFinite { path: PathBuf, source: NotFinite },
}

/// One line for each of the first images.
fn list(bad: &[Skipped]) -> String {
    let lines = bad.iter().take(LISTED).map(|one| format!("\n  {one}"));
    let mut text: String = lines.collect();
    if bad.len() > LISTED {
        text.push_str(&format!("\n  … and {} more", bad.len() - LISTED));
    }
    text
}

/// Features with values that are NaN, infinite, or too large to normalize.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the features of {rows} of {total} {items} are NaN, infinite or too large, such as {}; check the model's weights \
     for NaN and infinite values and, if it runs in half precision, try `precision = \"fp32\"`",
    examples.join(", ")
)]
pub struct NotFinite {
    /// What the features are of: `images` or `texts`.
    items: &'static str,
    rows: usize,
    total: usize,
    examples: Vec<String>,
}

impl NotFinite {
    /// Checks that all features are finite and can be normalized.
    /// - items: what they are of: `images` or `texts`.
    /// - values: `[rows, width]`, row-major; name: the name of a row's image or text.
    ///
    /// # Errors
    /// If the norm of a row is not finite in f32; the error names the first such rows.
    pub fn check(
        items: &'static str,
        values: &[f32],
        width: usize,
        name: impl Fn(usize) -> String,
    ) -> Result<(), Self> {
        let rows: Vec<usize> = (values.chunks_exact(width.max(1)).enumerate())
            .filter(|(_, row)| {
                !row.iter()
                    .map(|value| value * value)
                    .sum::<f32>()
                    .is_finite()
            })
            .map(|(row, _)| row)
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        Err(Self {
            items,
            rows: rows.len(),
            total: values.len() / width.max(1),
            examples: rows.into_iter().take(LISTED).map(name).collect(),
        })
    }

    pub(crate) fn at(self, path: &Path) -> FeatureError {
        FeatureError::NotFinite {
            path: path.to_path_buf(),
            source: self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_data::{SampleError, SkipCause};

    #[test]
    fn rows_that_are_not_finite_are_named() {
        let name = |row: usize| format!("{row}.jpg");
        let check = |values: &[f32]| NotFinite::check("images", values, 2, name);
        assert_eq!(check(&[0.0, 1e19, -1.0, 1e-40]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        let bad = [f32::NAN, 1.0, 2.0, f32::NEG_INFINITY, 1e20, 0.0];
        let text = check(&[&[0.0, 1.0], &bad[..]].concat())
            .unwrap_err()
            .to_string();
        let start = "the features of 3 of 4 images are NaN, infinite or too large, such as \
                     1.jpg, 2.jpg, 3.jpg;";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn unusable_images_are_listed_up_to_a_bound() {
        let one = |index: usize| Skipped {
            epoch: 0,
            shard: format!("{index}.webp"),
            key: index.to_string(),
            cause: SkipCause::CorruptImage,
            detail: SampleError::new(SkipCause::CorruptImage, "cut off").detail,
            samples: 1,
        };
        let text = |count: usize| {
            let error = FeatureError::Unusable {
                path: "set".into(),
                images: 60,
                bad: (0..count).map(one).collect(),
            };
            error.to_string()
        };
        assert!(text(2).starts_with("set: 2 of 60 images cannot be used; replace them"));
        assert!(text(2).ends_with(
            "\n  0.webp: 0: corrupt image: cut off\n  1.webp: 1: corrupt image: cut off"
        ));
        assert!(text(13).ends_with("9.webp: 9: corrupt image: cut off\n  … and 3 more"));
    }
}
