//! The embedded dataset `shapes`: images of one colored shape each, with captions in varied words.
//! Everything is drawn from the seed; nothing is stored or downloaded.
//!
//! Eight of the 64 (shape, color) pairs never occur in training: the held-out pairs. Each shape and
//! each color is held out exactly once.

mod captions;
mod paint;
mod scene;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::{Purpose, stream};
use crate::error::LastCause;
use crate::sample::ImageData;

pub use paint::MIN_IMAGE_SIZE;
pub use scene::SHAPES;
use scene::{COLOURS, Scene};

/// Streams of the evaluation splits; training never reaches these epochs.
const TEST_EPOCH: u64 = u64::MAX;
const HELD_OUT_EPOCH: u64 = u64::MAX - 1;
const PROBE_EPOCH: u64 = u64::MAX - 2;

/// Which (shape, color) pairs an image may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShapesSplit {
    /// New images of the pairs seen in training.
    Test,
    /// Images of the held-out pairs.
    HeldOut,
    /// More new images of the pairs seen in training, for probes and classifiers.
    Train,
}

/// A training image with its caption: a pure function of (seed, epoch, index).
pub(crate) fn training_pair(
    seed: u64,
    epoch: u64,
    index: usize,
    image_size: u32,
) -> (RgbImage, String) {
    let mut rng = stream(seed, Purpose::Shapes, epoch, index as u64);
    let scene = Scene::draw(false, &mut rng);
    let pixels = paint::paint(&scene, image_size, &mut rng);
    let caption = captions::caption(&scene, &mut rng);
    (pixels, caption)
}

/// Writes the training images of the first epoch as PNGs, in one folder per class, such as
/// `red circle`.
/// - progress: called with the number of images that are done.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_class_folder(
    samples: usize,
    seed: u64,
    image_size: u32,
    folder: &Path,
    progress: impl Fn(usize) + Sync,
) -> io::Result<()> {
    let done = AtomicUsize::new(0);
    (0..samples).into_par_iter().try_for_each(|index| {
        let mut rng = stream(seed, Purpose::Shapes, 0, index as u64);
        let scene = Scene::draw(false, &mut rng);
        let class = format!("{} {}", COLOURS[scene.colour].0, SHAPES[scene.shape]);
        let class = folder.join(class);
        fs::create_dir_all(&class)?;
        let pixels = paint::paint(&scene, image_size, &mut rng);
        let path = class.join(format!("{index:08}.png"));
        (pixels.save(&path)).map_err(|error| io::Error::other(LastCause(error)))?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(())
    })
}

/// What counts as a class in an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShapesClasses {
    /// The eight shapes, of any color.
    Shapes,
    /// All 64 pairs, such as "red circle".
    Pairs,
}

/// Images for evaluation, the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct LabelledShapes {
    pub(crate) split: ShapesSplit,
    pub(crate) classes: ShapesClasses,
    pub(crate) image_size: u32,
}

impl LabelledShapes {
    pub(crate) fn class_names(&self) -> Vec<String> {
        match self.classes {
            ShapesClasses::Shapes => SHAPES.map(str::to_string).to_vec(),
            ShapesClasses::Pairs => SHAPES
                .iter()
                .flat_map(|shape| COLOURS.map(|(colour, _)| format!("{colour} {shape}")))
                .collect(),
        }
    }

    fn draw(&self, index: usize) -> (Scene, ChaCha8Rng) {
        let (epoch, held_out) = match self.split {
            ShapesSplit::Test => (TEST_EPOCH, false),
            ShapesSplit::HeldOut => (HELD_OUT_EPOCH, true),
            ShapesSplit::Train => (PROBE_EPOCH, false),
        };
        let mut rng = stream(0, Purpose::Shapes, epoch, index as u64);
        (Scene::draw(held_out, &mut rng), rng)
    }

    pub(crate) fn read(&self, index: usize) -> ImageData {
        let (scene, mut rng) = self.draw(index);
        ImageData::Pixels(paint::paint(&scene, self.image_size, &mut rng))
    }

    pub(crate) fn label(&self, index: usize) -> usize {
        let (scene, _) = self.draw(index);
        match self.classes {
            ShapesClasses::Shapes => scene.shape,
            ShapesClasses::Pairs => scene.shape * COLOURS.len() + scene.colour,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::scene::is_held_out;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_shape_and_colour_is_held_out_once() {
        let pairs: Vec<_> = (0..8)
            .flat_map(|shape| (0..8).map(move |colour| (shape, colour)))
            .filter(|(shape, colour)| is_held_out(*shape, *colour))
            .collect();
        assert_eq!(pairs.len(), 8);
        assert_eq!(pairs.iter().map(|p| p.0).collect::<HashSet<_>>().len(), 8);
        assert_eq!(pairs.iter().map(|p| p.1).collect::<HashSet<_>>().len(), 8);
    }

    #[test]
    fn training_never_shows_or_names_a_held_out_pair() {
        for index in 0..400 {
            let caption = training_pair(5, 2, index, 32).1.to_lowercase();
            for shape in 0..8 {
                let (colour, _) = COLOURS[(3 * shape + 1) % 8];
                let named = caption.contains(SHAPES[shape]) && caption.contains(colour);
                assert!(!named, "{caption}");
            }
        }
    }

    #[test]
    fn images_repeat_for_the_same_draw_and_differ_between_epochs() {
        let pixels = |epoch| training_pair(5, epoch, 1, 32).0;
        assert_eq!(pixels(0), pixels(0));
        assert_ne!(pixels(0), pixels(1));
    }

    #[test]
    fn held_out_images_show_held_out_pairs() {
        let dataset = LabelledShapes {
            split: ShapesSplit::HeldOut,
            classes: ShapesClasses::Pairs,
            image_size: 16,
        };
        for index in 0..50 {
            let label = dataset.label(index);
            assert!(is_held_out(label / 8, label % 8));
        }
        assert_eq!(dataset.class_names()[9], "orange square");
    }
}
