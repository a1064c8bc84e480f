//! Confusion matrices: images by class and predicted class.

/// Counts of images by their class and their predicted class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    pub(super) class_names: Vec<String>,
    /// `[classes][classes]`, row-major: rows are classes, columns are predicted classes.
    pub(super) counts: Vec<u32>,
    /// Images of each class whose scores are all NaN.
    unscored: Vec<u32>,
}

/// The results of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassResult {
    pub name: String,
    pub images: u32,
    /// The fraction of the class's images that are predicted as the class.
    pub recall: f64,
    /// The fraction of the images predicted as the class that belong to it.
    pub precision: f64,
}

impl ConfusionMatrix {
    /// Without any image.
    pub fn new(class_names: &[String]) -> Self {
        let classes = class_names.len();
        Self {
            class_names: class_names.to_vec(),
            counts: vec![0; classes * classes],
            unscored: vec![0; classes],
        }
    }

    /// Counts an image of a class.
    /// - predicted: `None` if its scores are all NaN.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn add(&mut self, class: usize, predicted: Option<usize>) {
        let classes = self.classes();
        match predicted {
            Some(other) => self.counts[class * classes + other] += 1,
            None => self.unscored[class] += 1,
        }
    }

    pub(super) fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// The images of a class by predicted class.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn row(&self, class: usize) -> &[u32] {
        &self.counts[class * self.classes()..(class + 1) * self.classes()]
    }

    pub(super) fn images_of(&self, class: usize) -> u32 {
        self.row(class).iter().sum::<u32>() + self.unscored[class]
    }

    fn recall(&self, class: usize) -> Option<f64> {
        let images = self.images_of(class);
        (images > 0).then(|| f64::from(self.row(class)[class]) / f64::from(images))
    }

    /// The fraction of all images that are predicted correctly.
    pub fn accuracy(&self) -> f64 {
        let right: u32 = (0..self.classes())
            .map(|class| self.row(class)[class])
            .sum();
        let images: u32 = (0..self.classes()).map(|class| self.images_of(class)).sum();
        f64::from(right) / f64::from(images.max(1))
    }

    /// The mean of the classes' recalls, without classes that have no images.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn mean_per_class(&self) -> f64 {
        let recalls: Vec<f64> = (0..self.classes())
            .filter_map(|class| self.recall(class))
            .collect();
        recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
    }

    /// The mean of the classes' F1, the harmonic mean of recall and precision, without classes that have no images. Source:
    /// scikit-learn's `f1_score` with `average="macro"` and the labels of the images, as in WILDS.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn f1_macro(&self) -> f64 {
        let f1 = |class: usize| {
            let images = self.images_of(class);
            let predicted: u32 = (0..self.classes())
                .map(|other| self.row(other)[class])
                .sum();
            let right = f64::from(self.row(class)[class]);
            (images > 0).then(|| 2.0 * right / (f64::from(images) + f64::from(predicted)))
        };
        let all: Vec<f64> = (0..self.classes()).filter_map(f1).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }

    /// The results of each class, in class order.
    pub fn by_class(&self) -> Vec<ClassResult> {
        let result = |class: usize| {
            let predicted: u32 = (0..self.classes())
                .map(|other| self.row(other)[class])
                .sum();
            ClassResult {
                name: self.class_names[class].clone(),
                images: self.images_of(class),
                recall: self.recall(class).unwrap_or(f64::NAN),
                precision: f64::from(self.row(class)[class]) / f64::from(predicted.max(1)),
            }
        };
        (0..self.classes()).map(result).collect()
    }

    /// The `most` frequent mistakes: (class, predicted class, number of images).
    pub fn worst(&self, most: usize) -> Vec<(usize, usize, u32)> {
        let classes = self.classes();
        let mut mistakes: Vec<_> = (self.counts.iter().enumerate())
            .map(|(at, count)| (at / classes, at % classes, *count))
            .filter(|(class, other, count)| class != other && *count > 0)
            .collect();
        mistakes.sort_by_key(|(class, other, count)| (u32::MAX - count, *class, *other));
        mistakes.truncate(most);
        mistakes
    }

    /// The `most` frequent mistakes as sentences.
    pub fn worst_in_words(&self, most: usize) -> Vec<String> {
        let words = |(class, other, count): (usize, usize, u32)| {
            let (name, predicted) = (&self.class_names[class], &self.class_names[other]);
            let images = self.images_of(class);
            format!("{count} of {images} images of `{name}` were classified as `{predicted}`")
        };
        self.worst(most).into_iter().map(words).collect()
    }

    /// The matrix as CSV: a row for each class with its results and counts.
    pub fn to_csv(&self) -> String {
        let mut text = format!(
            "class,images,recall,precision,{}\n",
            quoted(&self.class_names)
        );
        for (class, result) in self.by_class().into_iter().enumerate() {
            let counts: Vec<String> = self.row(class).iter().map(u32::to_string).collect();
            let head = quoted(&[result.name]);
            text.push_str(&format!(
                "{head},{},{:.6},{:.6},{}\n",
                result.images,
                result.recall,
                result.precision,
                counts.join(",")
            ));
        }
        text
    }
}

fn quoted(names: &[String]) -> String {
    let cells = names
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    cells.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_metrics_tables_and_images() {
        let names = ["a".to_string(), "b<\"c\"".to_string(), "none".to_string()];
        let mut confusion = ConfusionMatrix::new(&names);
        for (class, predicted) in [(0, 0), (0, 0), (0, 1), (1, 0), (1, 0), (1, 0), (1, 1)] {
            confusion.add(class, Some(predicted));
        }
        confusion.add(1, None);
        assert_eq!(confusion.worst(1), [(1, 0, 3)]);
        let words = confusion.worst_in_words(9);
        assert_eq!(
            words[1],
            "1 of 3 images of `a` were classified as `b<\"c\"`"
        );
        assert!((confusion.accuracy() - 3.0 / 8.0).abs() < 1e-12);
        assert!((2.0 * confusion.mean_per_class() - (2.0 / 3.0 + 0.2)).abs() < 1e-12);
        // 2 · 2 / (3 + 5) and 2 · 1 / (5 + 2); no image is of the third class.
        assert!((2.0 * confusion.f1_macro() - (0.5 + 2.0 / 7.0)).abs() < 1e-12);
        let by_class = confusion.by_class();
        assert!((by_class[0].precision - 0.4).abs() < 1e-12 && by_class[2].recall.is_nan());
        assert!(
            confusion
                .to_csv()
                .contains("\"b<\"\"c\"\"\",5,0.200000,0.500000,3,1,0")
        );
        let svg = confusion.to_svg();
        assert!(svg.contains("b&lt;\"c\" as a: 3 of 5") && svg.ends_with("</svg>\n"));
        let png = image::load_from_memory(&confusion.to_png().unwrap()).unwrap();
        let size = format!("width=\"{}\" height=\"{}\"", png.width(), png.height());
        assert!(svg.contains(&size), "{size}");
        // The frame, the ground and the two colors at least.
        let colors: std::collections::HashSet<_> = png.to_rgb8().pixels().copied().collect();
        assert!(colors.len() > 8, "{colors:?}");
    }
}
