//! Compares an image with texts: `cargo run --release --example embed -- MODEL IMAGE TEXT...`
//!
//! MODEL is a run's folder, an open_clip or Hugging Face folder, or a file of weights.

use std::path::Path;

use couplet::{Device, Encoder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("expected MODEL IMAGE TEXT...".into());
    };
    let texts: Vec<String> = arguments.collect();
    if texts.is_empty() {
        return Err("expected at least one TEXT".into());
    }
    let encoder = Encoder::open(Path::new(&model), &Device::flex())?;
    let image = encoder.encode_images(&[image])?; // [1, embed_dim], L2-normalised
    let of_texts = encoder.encode_texts(&texts)?; // [texts, embed_dim], L2-normalised
    let cosines = image.matmul(of_texts.transpose()); // [1, texts]
    let cosines: Vec<f32> = cosines.into_data().try_to_vec()?;
    for (text, cosine) in texts.iter().zip(cosines) {
        println!("{cosine:7.4}  {text}");
    }
    Ok(())
}
