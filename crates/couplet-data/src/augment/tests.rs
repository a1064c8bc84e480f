use super::*;
use crate::draw::{Purpose, stream};

fn square() -> Vec<u8> {
    (0..8 * 8 * 3u32)
        .map(|at| u8::try_from(at * 7 % 256).unwrap())
        .collect()
}

fn painted(augment: &Augment, sample: u64) -> Vec<u8> {
    let mut pixels = square();
    augment.paint(&mut pixels, 8, &mut stream(1, Purpose::Augment, 0, sample));
    pixels
}

#[test]
fn mirroring_swaps_left_and_right() {
    let augment = Augment {
        horizontal_flip: 1.0,
        ..Augment::default()
    };
    let (before, after) = (square(), painted(&augment, 0));
    for row in 0..8 {
        for column in 0..8 {
            let at = |column: usize| (row * 8 + column) * 3;
            assert_eq!(
                after[at(column)..at(column) + 3],
                before[at(7 - column)..at(7 - column) + 3]
            );
        }
    }
}

#[test]
fn a_hue_shift_turns_the_color_wheel() {
    assert_eq!(turn_hue([255, 0, 0], 1.0 / 3.0), [0, 255, 0]);
    assert_eq!(turn_hue([255, 0, 0], -1.0 / 3.0), [0, 0, 255]);
    assert_eq!(turn_hue([10, 200, 90], 0.0), [10, 200, 90]);
    assert_eq!(turn_hue([7, 7, 7], 0.3), [7, 7, 7]);
}

#[test]
fn luma_is_the_same_as_pils() {
    // Image.new("RGB", (1, 1), c).convert("L")
    for (colour, grey) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([10, 200, 90], 131),
    ] {
        assert_eq!(luma(colour), grey);
    }
}

#[test]
fn draws_depend_on_the_sample_alone() {
    let augment = Augment {
        color_jitter: Some(ColorJitter {
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            probability: 0.8,
        }),
        random_erasing: Some(RandomErasing {
            probability: 0.5,
            scale: default_erased(),
            ratio: default_erased_ratio(),
            fill: [1, 2, 3],
        }),
        ..Augment::default()
    };
    let first: Vec<_> = (0..6).map(|sample| painted(&augment, sample)).collect();
    let again: Vec<_> = (0..6).map(|sample| painted(&augment, sample)).collect();
    assert_eq!(first, again);
    assert!(first.iter().any(|pixels| *pixels != first[0]));
    let erased = |pixels: &Vec<u8>| {
        pixels
            .as_chunks::<3>()
            .0
            .iter()
            .filter(|p| **p == [1, 2, 3])
            .count()
    };
    let erased: Vec<_> = first.iter().map(erased).collect();
    assert!(
        erased.iter().any(|count| *count > 0) && erased.contains(&0),
        "{erased:?}"
    );
    // At most a third of 64 pixels; the sides are rounded.
    assert!(erased.iter().all(|count| *count <= 30), "{erased:?}");
}

#[test]
fn problems_name_the_keys_of_values_out_of_range() {
    let augment: Augment = read(
        r#"{"horizontal_flip": 2.0, "random_crop": true,
        "random_resized_crop": {"scale": [0.9, 0.1]}, "color_jitter": {"hue": 0.7}}"#,
    );
    let keys: Vec<_> = augment.problems().into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "horizontal_flip",
            "color_jitter.hue",
            "random_resized_crop.scale",
            "random_crop"
        ]
    );
}

fn read(json: &str) -> Augment {
    serde_json::from_str(json).unwrap()
}
