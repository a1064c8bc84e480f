//! Fixtures of this folder's tests.

use std::ops::Range;

use couplet_data::loader::HostBatch;
use couplet_model::{ForwardContext, ImageTowerSpec, ModelSpec, presets};

/// Side of the images, in pixels.
pub const SIZE: usize = 32;
pub const PASS: ForwardContext = ForwardContext {
    seed: 1,
    step: 2,
    first_row: 0,
};

pub fn spec() -> ModelSpec {
    let mut spec = presets::find("ViT-Ti-8-32").unwrap();
    if let ImageTowerSpec::Vit(vit) = &mut spec.image {
        vit.patch_dropout = 0.25;
    }
    spec.init_logit_bias = Some(-3.0);
    spec
}

/// Distinct images, and captions of several lengths.
pub fn pairs(rows: Range<usize>) -> HostBatch {
    let (mut pixels, mut tokens, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let pixel = |at: usize| u8::try_from((row * 37 + at * (row + 3)) % 256).unwrap();
        pixels.extend((0..SIZE * SIZE * 3).map(pixel));
        let word = |at: usize| i32::try_from(300 + 11 * row + 5 * at).unwrap();
        let words = 1 + row % 12;
        let mut caption = vec![49_406];
        caption.extend((0..words).map(word));
        caption.push(49_407);
        lengths.push(caption.len());
        caption.resize(16, 0);
        tokens.extend(caption);
    }
    HostBatch::from_host(&pixels, tokens, 16, lengths)
}
