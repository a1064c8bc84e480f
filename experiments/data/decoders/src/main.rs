//! JPEG decoders and resizers side by side, in one thread, alternating.
//!
//!     cargo run --release --manifest-path experiments/data/decoders/Cargo.toml -- SHARD.tar

use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

const ROUNDS: usize = 3;
const SIDE: u32 = 224;

type Decode = fn(&[u8]) -> Option<(usize, usize, Vec<u8>)>;

fn image_crate(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let image = image::load_from_memory(bytes).ok()?.into_rgb8();
    Some((image.width() as usize, image.height() as usize, image.into_raw()))
}

fn zune(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut decoder = zune_jpeg::JpegDecoder::new(Cursor::new(bytes));
    let pixels = decoder.decode().ok()?;
    let (width, height) = decoder.dimensions()?;
    Some((width, height, pixels))
}

fn jpeg_decoder(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let pixels = decoder.decode().ok()?;
    let info = decoder.info()?;
    Some((info.width.into(), info.height.into(), pixels))
}

fn mozjpeg_by<const EIGHTHS: u8>(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut jpeg = mozjpeg::Decompress::new_mem(bytes).ok()?;
    jpeg.scale(EIGHTHS);
    let mut lines = jpeg.rgb().ok()?;
    let (width, height) = (lines.width(), lines.height());
    let pixels = lines.read_scanlines::<[u8; 3]>().ok()?.into_flattened();
    Some((width, height, pixels))
}

#[cfg(feature = "turbojpeg")]
fn turbojpeg_by<const PART: usize>(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut decompressor = turbojpeg::Decompressor::new().ok()?;
    let scaling = turbojpeg::ScalingFactor::new(1, PART);
    decompressor.set_scaling_factor(scaling).ok()?;
    let header = decompressor.read_header(bytes).ok()?.scaled(scaling);
    let mut pixels = vec![0; header.width * header.height * 3];
    let target = turbojpeg::Image {
        pixels: &mut pixels[..],
        width: header.width,
        pitch: header.width * 3,
        height: header.height,
        format: turbojpeg::PixelFormat::RGB,
    };
    decompressor.decompress(bytes, target).ok()?;
    Some((header.width, header.height, pixels))
}

fn decoders() -> Vec<(&'static str, Decode)> {
    vec![
        ("image (zune-jpeg)", image_crate as Decode),
        ("zune-jpeg", zune),
        ("jpeg-decoder", jpeg_decoder),
        ("mozjpeg without SIMD", mozjpeg_by::<8>),
        ("mozjpeg at a half", mozjpeg_by::<4>),
        ("mozjpeg at a quarter", mozjpeg_by::<2>),
        ("mozjpeg at an eighth", mozjpeg_by::<1>),
        #[cfg(feature = "turbojpeg")]
        ("libjpeg-turbo with SIMD", turbojpeg_by::<1>),
        #[cfg(feature = "turbojpeg")]
        ("libjpeg-turbo at a half", turbojpeg_by::<2>),
        #[cfg(feature = "turbojpeg")]
        ("libjpeg-turbo at an eighth", turbojpeg_by::<8>),
    ]
}

fn resize_fast(image: &RgbImage) -> Vec<u8> {
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3);
    let mut target = Image::new(SIDE, SIDE, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new()
        .resize(&source.expect("whole pixels"), &mut target, &options)
        .expect("sizes are positive");
    target.into_vec()
}

fn resize_image(image: &RgbImage) -> Vec<u8> {
    image::imageops::resize(image, SIDE, SIDE, image::imageops::FilterType::CatmullRom).into_raw()
}

/// The fastest round's milliseconds a picture.
fn print(name: &str, rounds: &[Duration], pictures: usize) {
    let best = rounds.iter().min().expect("there are rounds").as_secs_f64();
    let worst = rounds.iter().max().expect("there are rounds").as_secs_f64();
    let each = 1e3 / pictures as f64;
    println!("| {name} | {:.2} | {:.2} |", best * each, worst * each);
}

fn main() {
    let path = std::env::args().nth(1).expect("a tar file of JPEGs");
    let mut archive = tar::Archive::new(std::fs::File::open(path).expect("the file opens"));
    let mut jpegs = Vec::new();
    for member in archive.entries().expect("a tar file") {
        let mut member = member.expect("a whole tar file");
        if member.path_bytes().ends_with(b".jpg") {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).expect("a whole member");
            jpegs.push(bytes);
        }
    }
    println!("| {} pictures | best, ms each | worst, ms each |\n|---|---|---|", jpegs.len());
    let decoders = decoders();
    let mut times = vec![Vec::new(); decoders.len()];
    for _ in 0..ROUNDS {
        for ((_, decode), times) in decoders.iter().zip(&mut times) {
            let start = Instant::now();
            for jpeg in &jpegs {
                assert!(decode(jpeg).is_some(), "every picture decodes");
            }
            times.push(start.elapsed());
        }
    }
    for ((name, _), times) in decoders.iter().zip(&times) {
        print(name, times, jpegs.len());
    }
    let images: Vec<RgbImage> = (jpegs.iter().take(100))
        .map(|jpeg| image::load_from_memory(jpeg).expect("it decodes").into_rgb8())
        .collect();
    let resizers: [(&str, fn(&RgbImage) -> Vec<u8>); 2] =
        [("fast_image_resize to 224", resize_fast), ("image::imageops to 224", resize_image)];
    for (name, resize) in resizers {
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for image in &images {
                    assert_eq!(resize(image).len(), (SIDE * SIDE * 3) as usize);
                }
                start.elapsed()
            })
            .collect();
        print(name, &rounds, images.len());
    }
}
