//! Paints a scene to pixels.

use std::f32::consts::{PI, TAU};

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::scene::{COLOURS, Scene};

/// The smallest side, in pixels, at which the shapes are distinguishable.
pub const MIN_IMAGE_SIZE: u32 = 16;

/// Control-point distance for a quarter circle drawn as one cubic.
const ARC: f32 = 0.552_284_8;

/// Paints the scene with an uneven background and noise.
pub(super) fn paint(scene: &Scene, image_size: u32, rng: &mut ChaCha8Rng) -> RgbImage {
    let mut canvas = Pixmap::new(image_size, image_size).expect("an image size is not zero");
    let [r, g, b] = scene.background;
    canvas.fill(Color::from_rgba8(r, g, b, 255));

    let [r, g, b] = COLOURS[scene.colour].1;
    let mut vary = |channel: u8| channel.saturating_add_signed(rng.random_range(-12..=7));
    let mut paint = Paint::default();
    paint.set_color_rgba8(vary(r), vary(g), vary(b), 255);
    paint.anti_alias = true;

    #[expect(
        clippy::cast_precision_loss,
        reason = "an image size is far below 2^24"
    )]
    let side = image_size as f32;
    let scale = scene.radius * side;
    let placed = Transform::from_translate(scene.centre[0] * side, scene.centre[1] * side)
        .pre_rotate(scene.rotation.to_degrees())
        .pre_scale(scale, scale);
    let path = outline(scene.shape).expect("every outline is a finite closed path");
    canvas.fill_path(&path, &paint, FillRule::EvenOdd, placed, None);
    noisy(&canvas, rng)
}

/// The pixels with a linear gradient of light across them and Gaussian noise on each channel.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "values are clamped to a byte; sizes are far below 2^24"
)]
fn noisy(canvas: &Pixmap, rng: &mut ChaCha8Rng) -> RgbImage {
    let noise = Normal::new(0.0, rng.random_range(1.0..8.0f32)).expect("the deviation is positive");
    let slope: [f32; 2] = [(); 2].map(|()| rng.random_range(-16.0..16.0));
    let side = canvas.width() as f32;
    RgbImage::from_fn(canvas.width(), canvas.height(), |x, y| {
        let pixel = canvas.pixel(x, y).expect("inside the canvas");
        let light = slope[0] * (x as f32 / side - 0.5) + slope[1] * (y as f32 / side - 0.5);
        let mut channel = |v: u8| {
            (f32::from(v) + light + noise.sample(rng))
                .round()
                .clamp(0.0, 255.0) as u8
        };
        image::Rgb([
            channel(pixel.red()),
            channel(pixel.green()),
            channel(pixel.blue()),
        ])
    })
}

/// The outline of a shape in the unit circle, in the order of `SHAPES`.
fn outline(shape: usize) -> Option<Path> {
    let mut path = PathBuilder::new();
    match shape {
        0 => path.push_circle(0.0, 0.0, 0.9),
        1 => path.push_rect(Rect::from_ltrb(-0.75, -0.75, 0.75, 0.75)?),
        2 => polygon(&mut path, (0u8..3).map(|i| (1.0, TAU * f32::from(i) / 3.0))),
        3 => polygon(
            &mut path,
            (0u8..10).map(|i| {
                (
                    if i % 2 == 0 { 1.0 } else { 0.42 },
                    TAU * f32::from(i) / 10.0,
                )
            }),
        ),
        4 => heart(&mut path),
        5 => cross(&mut path),
        6 => {
            path.push_circle(0.0, 0.0, 0.95);
            path.push_circle(0.0, 0.0, 0.55);
        }
        _ => crescent(&mut path),
    }
    path.finish()
}

/// A closed polygon of (radius, angle) corners, with the first one at the top.
fn polygon(path: &mut PathBuilder, corners: impl Iterator<Item = (f32, f32)>) {
    let at_top = |angle: f32| angle - PI / 2.0;
    closed(
        path,
        corners.map(|(radius, angle)| (radius * at_top(angle).cos(), radius * at_top(angle).sin())),
    );
}

/// A closed polyline through points.
fn closed(path: &mut PathBuilder, points: impl Iterator<Item = (f32, f32)>) {
    for (at, (x, y)) in points.enumerate() {
        if at == 0 {
            path.move_to(x, y);
        } else {
            path.line_to(x, y);
        }
    }
    path.close();
}

fn heart(path: &mut PathBuilder) {
    path.move_to(0.0, 0.9);
    path.cubic_to(-1.3, 0.0, -0.95, -0.95, -0.45, -0.85);
    path.cubic_to(-0.15, -0.8, 0.0, -0.55, 0.0, -0.4);
    path.cubic_to(0.0, -0.55, 0.15, -0.8, 0.45, -0.85);
    path.cubic_to(0.95, -0.95, 1.3, 0.0, 0.0, 0.9);
    path.close();
}

fn cross(path: &mut PathBuilder) {
    let (arm, half) = (0.95, 0.3);
    let corners = [
        (-half, -arm),
        (half, -arm),
        (half, -half),
        (arm, -half),
        (arm, half),
        (half, half),
        (half, arm),
        (-half, arm),
        (-half, half),
        (-arm, half),
        (-arm, -half),
        (-half, -half),
    ];
    closed(path, corners.into_iter());
}

/// A half moon: the left half of a circle, closed by a flatter curve.
fn crescent(path: &mut PathBuilder) {
    path.move_to(0.35, -0.95);
    path.cubic_to(0.35 - 2.2 * ARC, -1.0, 0.35 - 2.2 * ARC, 1.0, 0.35, 0.95);
    path.cubic_to(-0.25, 0.55, -0.25, -0.55, 0.35, -0.95);
    path.close();
}
