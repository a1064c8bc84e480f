//! What an image shows.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The names of the eight shapes, in class order.
pub const SHAPES: [&str; 8] = [
    "circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent",
];

/// The names of the eight colors with their RGB values, in class order.
pub(super) const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [235, 45, 45]),
    ("orange", [245, 138, 20]),
    ("yellow", [250, 225, 40]),
    ("green", [45, 185, 65]),
    ("blue", [55, 105, 240]),
    ("purple", [165, 65, 215]),
    ("pink", [250, 140, 190]),
    ("white", [248, 248, 248]),
];

/// What one image shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scene {
    pub shape: usize,
    pub colour: usize,
    /// The shape's outer radius, as a fraction of the image's side.
    pub radius: f32,
    /// The center, as fractions of the side.
    pub centre: [f32; 2],
    /// In radians.
    pub rotation: f32,
    pub background: [u8; 3],
}

/// Whether the pair is held out of training.
pub(super) fn is_held_out(shape: usize, colour: usize) -> bool {
    (3 * shape + 1) % COLOURS.len() == colour
}

impl Scene {
    pub fn draw(held_out: bool, rng: &mut ChaCha8Rng) -> Self {
        let (shape, colour) = loop {
            let shape = rng.random_range(0..SHAPES.len());
            let colour = rng.random_range(0..COLOURS.len());
            if is_held_out(shape, colour) == held_out {
                break (shape, colour);
            }
        };
        let radius = rng.random_range(0.3..0.45f32);
        let mut place = || rng.random_range(0.4..0.6f32);
        let centre = [place(), place()];
        let rotation = rng.random_range(-0.26..0.26f32);
        // Muted and dark, so that every color is visible on it.
        let grey = rng.random_range(10..80u8);
        let background = [(); 3].map(|()| grey.saturating_add_signed(rng.random_range(-10..=10)));
        Self {
            shape,
            colour,
            radius,
            centre,
            rotation,
            background,
        }
    }
}
