//! Trains on a dataset and with a loss of one's own:
//! `cargo run --release --example custom_source -- FOLDER`

use std::path::PathBuf;

use couplet::Tensor;
use couplet::burn::tensor::activation::relu;
use couplet::data::{
    ImageData, ListedFile, MapDataset, Sample, SampleError, SkipCause, SourceConfig,
};
use couplet::loss::{Features, PairLoss};
use couplet::train::{
    AllowedChanges, Event, ModelConfig, Observer, OptimizerConfig, RunBuilder, RunConfig,
    RunFolder, ScheduleConfig, StopSignal, train,
};

/// Squares in one color, made in memory; a database or a service is read in the same way.
struct Squares {
    captions: Vec<String>,
}

/// Side of an image, in pixels.
const SIDE: u8 = 32;

impl Squares {
    fn new(samples: usize) -> Self {
        let levels = ["no", "little", "some", "much"];
        let caption = |index: usize| {
            let [red, green, blue] =
                [index % 4, index / 4 % 4, index / 16 % 4].map(|at| levels[at]);
            format!("a square with {red} red, {green} green and {blue} blue")
        };
        Self {
            captions: (0..samples).map(caption).collect(),
        }
    }
}

impl MapDataset for Squares {
    fn len(&self) -> usize {
        self.captions.len()
    }

    /// Called from several threads, in an order that depends only on the run's seed and the epoch.
    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if index == 7 {
            // Such a sample is skipped: the run's `skipped.jsonl` lists it.
            return Err(SampleError::new(SkipCause::Unreadable, "row 7 is gone"));
        }
        let color = [index % 4, index / 4 % 4, index / 16 % 4].map(|at| [0, 85, 170, 255][at]);
        Ok(Sample {
            // An image file's bytes; `ImageData::Pixels` holds decoded ones.
            image: ImageData::Encoded(bmp(color)),
            caption: self.captions[index].clone(),
            label: None,
        })
    }

    /// Where `skipped.jsonl` says that a sample is.
    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("squares".into(), index.to_string())
    }

    /// What a resumed run compares, so that it notices other data.
    fn listing(&self) -> Vec<ListedFile> {
        vec![ListedFile::of_texts("squares", &self.captions)]
    }
}

/// An uncompressed BMP file of one color.
fn bmp([red, green, blue]: [u8; 3]) -> Vec<u8> {
    let pixels = [blue, green, red].repeat(usize::from(SIDE) * usize::from(SIDE));
    let size = u32::try_from(54 + pixels.len()).expect("the image is small");
    let mut file = b"BM".to_vec();
    file.extend(size.to_le_bytes());
    for number in [0, 54, 40, u32::from(SIDE), u32::from(SIDE)] {
        file.extend(number.to_le_bytes());
    }
    file.extend([1, 0, 24, 0]); // one plane, 24 bits per pixel
    file.extend([0; 24]);
    file.extend(pixels);
    file
}

/// The hinge of each pair's similarity over the mean similarity with the others.
struct Hinge {
    margin: f32,
}

impl PairLoss for Hinge {
    fn name(&self) -> &'static str {
        "hinge"
    }

    /// - features: image and text features, `[batch, embed_dim]` each, L2-normalised, of the whole batch.
    /// - returns the loss, `[1]`.
    fn forward(&self, features: Features) -> Tensor<1> {
        let own = (features.image.clone() * features.text.clone()).sum_dim(1); // [batch, 1]
        let all = features.image.matmul(features.text.transpose()); // [batch, batch]
        relu(all.mean_dim(1) - own + self.margin).mean()
    }
}

struct Losses;

impl Observer for Losses {
    fn event(&mut self, event: Event) {
        match event {
            Event::Step(line) => println!("step {:2}: loss {:.4}", line.step, line.loss),
            Event::Skipped { samples, .. } => println!("skipped {samples}"),
            Event::Warning(text) => eprintln!("warning: {text}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1);
    let folder = folder.map_or_else(|| RunConfig::folder_of("squares"), PathBuf::from);
    let mut config = RunConfig::new(
        "squares",
        ModelConfig::preset("ViT-Ti-8-32")?,
        SourceConfig::custom("squares"),
        32,
        OptimizerConfig::adamw(1e-3),
        ScheduleConfig::constant("8 steps".parse()?),
    );
    // The features of both halves are the loss's leaves: the gradients are those of one pass of 32.
    config.batch.micro = Some(16.into());
    config.data.max_skipped = 0.1;
    let run = RunBuilder::new(config)
        .dataset(Squares::new(64))
        .loss(Hinge { margin: 0.5 })
        .open()?;
    let folder = RunFolder::resume(&folder, &run, AllowedChanges::Longer)?;
    let outcome = train(&run, &folder, &StopSignal::default(), &mut Losses)?;
    println!("{} steps: {}", outcome.steps, folder.path().display());
    Ok(())
}
