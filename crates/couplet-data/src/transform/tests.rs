use super::*;
use crate::augment::default_ratio;
use crate::draw::{Purpose, stream};

/// The image that `tests/fixtures/make_resize.py` draws.
fn test_image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let byte = |v: u32| u8::try_from(v % 256).unwrap();
        image::Rgb([
            byte(x * 7 + y * 3),
            byte(x * x + 5 * y),
            byte(x * y + 31 * (x / 3)),
        ])
    })
}

fn rng() -> ChaCha8Rng {
    stream(0, Purpose::Augment, 0, 0)
}

/// Width, height, side, resize mode, interpolation, and PIL's result.
type Case = (u32, u32, u32, String, String, Vec<u8>);

#[test]
fn the_evaluation_transform_matches_open_clips_bit_for_bit() {
    let fixture = include_str!("../../tests/fixtures/resize.json");
    let cases: Vec<Case> = serde_json::from_str(fixture).unwrap();
    for (width, height, side, mode, interpolation, expected) in cases {
        let fit = match mode.as_str() {
            "shortest" => ResizeMode::Shortest,
            "longest" => ResizeMode::Longest(90),
            _ => ResizeMode::Squash,
        };
        let filter = match interpolation.as_str() {
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Bilinear,
        };
        let transform = Transform::eval(side, fit, filter);
        let mut out = vec![0; transform.output_len()];
        transform.apply(&test_image(width, height), &mut rng(), &mut out);
        let differing = out.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(
            differing, 0,
            "{width}x{height} to {side}, {mode} {interpolation}"
        );
    }
}

#[test]
fn the_training_transform_is_the_same_of_its_crop() {
    let whole = RandomResizedCrop {
        scale: [1.0, 1.0],
        ratio: [1.0, 1.0],
    };
    let augment = Augment {
        random_resized_crop: Some(whole),
        ..Augment::default()
    };
    for side in [16, 50, 90] {
        let exact = Transform::eval(side, ResizeMode::Squash, Interpolation::Bicubic);
        let fast = exact.clone().augmented(&augment);
        let [exact, fast] = [exact, fast].map(|transform| {
            let mut out = vec![0; transform.output_len()];
            let image = test_image(64, 64);
            transform.apply(&image, &mut rng(), &mut out);
            out
        });
        assert_eq!(exact, fast, "{side}");
    }
}

#[test]
fn a_very_oblong_image_needs_no_memory_for_its_cropped_parts() {
    let transform = Transform::eval(8, ResizeMode::Shortest, Interpolation::Bicubic);
    for image in [test_image(60_000, 1), test_image(1, 60_000)] {
        let mut out = vec![0; transform.output_len()];
        transform.apply(&image, &mut rng(), &mut out);
        assert!(out.iter().any(|byte| *byte > 0));
    }
}

#[test]
fn halves_round_to_even_as_in_python() {
    // round(0.5) = 0, round(1.5) = 2, round(2.5) = 2, round(3.5) = 4
    assert_eq!(
        [11, 13, 15, 17].map(|length| center(length, 10, CropRounding::HalfEven)),
        [0, 2, 2, 4]
    );
    assert_eq!(
        [11, 13, 15, 17].map(|length| center(length, 10, CropRounding::Down)),
        [0, 1, 2, 3]
    );
}

#[test]
fn random_crops_keep_to_their_scale_and_ratio() {
    let crop = RandomResizedCrop {
        scale: [0.2, 0.5],
        ratio: default_ratio(),
    };
    let mut rng = rng();
    for _ in 0..200 {
        let area = random_area(&crop, [90, 60], &mut rng);
        let share = f64::from(area.width * area.height) / (90.0 * 60.0);
        let ratio = f64::from(area.width) / f64::from(area.height);
        assert!((0.18..0.52).contains(&share), "{area:?}");
        assert!((0.70..1.40).contains(&ratio), "{area:?}");
        assert!(area.left + area.width <= 90 && area.top + area.height <= 60);
    }
}

#[test]
fn a_crop_that_never_fits_falls_back_to_the_center() {
    let crop = RandomResizedCrop {
        scale: [1.0, 1.0],
        ratio: default_ratio(),
    };
    let area = random_area(&crop, [100, 10], &mut rng());
    assert_eq!(
        (area.width, area.height, area.left, area.top),
        (13, 10, 43, 0)
    );
}

#[test]
fn problems_name_the_keys_of_impossible_ranges() {
    let crop = RandomResizedCrop {
        scale: [0.9, 1.5],
        ratio: [2.0, 1.0],
    };
    let keys: Vec<_> = crop.problems().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["scale", "ratio"]);
}

#[test]
fn a_random_crop_is_a_square_of_the_resized_image() {
    // Every column of the wide image is its own grey; 32 wide after resizing.
    let wide = RgbImage::from_fn(64, 16, |x, _| image::Rgb([u8::try_from(4 * x).unwrap(); 3]));
    let augment = Augment {
        random_crop: true,
        ..Augment::default()
    };
    let transform =
        Transform::eval(8, ResizeMode::Shortest, Interpolation::Bilinear).augmented(&augment);
    let lefts: std::collections::BTreeSet<u8> = (0..40)
        .map(|sample| {
            let mut out = vec![0; transform.output_len()];
            let mut rng = stream(0, Purpose::Augment, 0, sample);
            transform.apply(&wide, &mut rng, &mut out);
            // Neighboring pixels are one resized column apart, wherever the square is.
            assert_eq!(out[3 * 4] - out[3 * 3], 8);
            out[0]
        })
        .collect();
    assert!(lefts.len() > 10, "{lefts:?}");
}

#[test]
fn a_jpeg_is_decoded_no_smaller_than_its_crop_needs() {
    let whole = Transform::eval(224, ResizeMode::Shortest, Interpolation::Bicubic);
    let by = |size| whole.reduction(size, &mut rng());
    assert_eq!(by([4000, 3000]), 8);
    assert_eq!(by([1800, 1791]), 4);
    assert_eq!((by([512, 448]), by([447, 448])), (2, 1));
    let padded = Transform::eval(224, ResizeMode::Longest(0), Interpolation::Bicubic);
    assert_eq!(padded.reduction([2000, 100], &mut rng()), 8);
    // A small crop needs all pixels of a large image.
    let zoomed = whole.augmented(&Augment {
        random_resized_crop: Some(RandomResizedCrop {
            scale: [0.01, 0.01],
            ratio: [1.0, 1.0],
        }),
        ..Augment::default()
    });
    assert_eq!(zoomed.reduction([4000, 3000], &mut rng()), 1);
}

#[test]
fn a_scaled_area_is_the_same_part_of_a_smaller_image() {
    let area = Window {
        left: 80,
        top: 8,
        width: 16,
        height: 40,
    };
    let small = scaled(area, [100, 50], [13, 7]);
    let wanted = Window {
        left: 10,
        top: 1,
        width: 2,
        height: 5,
    };
    assert_eq!(small, wanted);
    assert_eq!(scaled(area, [100, 50], [100, 50]), area);
}
