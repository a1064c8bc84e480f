use super::filter::PRECISION_BITS;
use super::*;

/// Pixels without a pattern, with runs of the extremes, whose overshoot is clipped.
fn pixels(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let extreme = (x / 7 + y / 5 + channel) % 2 * 255;
            let level = if state >> 31 == 0 {
                extreme
            } else {
                state >> 16 & 255
            };
            u8::try_from(level).unwrap()
        }))
    })
}

/// One pixel after the other, by the definition.
fn by_hand(source: Source, to: [u32; 2], window: Window, filter: Interpolation) -> Vec<u8> {
    let value = |x: usize, y: usize, channel: usize| i64::from(source.line(y)[3 * x + channel]);
    let sum = |terms: &mut dyn Iterator<Item = i64>| {
        let half = 1 << (PRECISION_BITS - 1);
        ((terms.sum::<i64>() + half) >> PRECISION_BITS).clamp(0, 255)
    };
    let columns = taps(source.size[0], to[0], window.left, window.width, filter);
    let rows = taps(source.size[1], to[1], window.top, window.height, filter);
    let weighted = |taps: &Taps, of: &dyn Fn(usize) -> i64| {
        let terms = taps.weights.iter().enumerate();
        sum(&mut terms.map(|(at, weight)| i64::from(*weight) * of(taps.first + at)))
    };
    let vertical_first = is_vertical_first(source.size, to);
    let mut out = Vec::new();
    for row in &rows {
        for column in &columns {
            for channel in 0..3 {
                let found = if vertical_first {
                    weighted(column, &|x| weighted(row, &|y| value(x, y, channel)))
                } else {
                    weighted(row, &|y| weighted(column, &|x| value(x, y, channel)))
                };
                out.push(u8::try_from(found).unwrap());
            }
        }
    }
    out
}

#[test]
fn both_passes_are_those_of_the_definition_for_all_sizes() {
    let whole = Window::whole;
    let part = |left, top, width, height| Window {
        left,
        top,
        width,
        height,
    };
    // Narrower and wider than a tile of 32 bytes and a block of 64, with and without a rest, fewer and more lines
    // than 16, larger and smaller, vertically first, a window, and lines of more than 65,535 pixels.
    for (from, to, window) in [
        ([1, 1], [1, 1], whole([1, 1])),
        ([1, 1], [40, 3], whole([40, 3])),
        ([10, 17], [10, 17], whole([10, 17])),
        ([11, 16], [3, 33], whole([3, 33])),
        ([64, 48], [21, 22], whole([21, 22])),
        ([97, 35], [43, 5], whole([43, 5])),
        ([33, 90], [31, 7], whole([31, 7])),
        ([70, 50], [90, 64], part(13, 20, 40, 31)),
        ([200, 150], [30, 23], part(5, 3, 22, 17)),
        ([70_000, 2], [9, 2], whole([9, 2])),
    ] {
        let image = pixels(from[0], from[1]);
        for filter in [
            Interpolation::Bicubic,
            Interpolation::Bilinear,
            Interpolation::Box,
            Interpolation::Hamming,
            Interpolation::Lanczos,
        ] {
            let source = Source::whole(&image);
            let mut out = vec![0; (window.width * window.height * 3) as usize];
            resize(source, to, window, filter, &mut out);
            assert!(
                out == by_hand(source, to, window, filter),
                "{from:?} to {to:?}, {filter:?}"
            );
        }
    }
}

#[test]
fn a_part_of_an_image_is_resized_as_if_it_were_one() {
    let image = pixels(90, 70);
    for area in [
        [0, 0, 90, 70],
        [13, 8, 40, 61],
        [89, 69, 1, 1],
        [50, 0, 40, 9],
    ] {
        let [left, top, width, height] = area;
        let area = Window {
            left,
            top,
            width,
            height,
        };
        let cut = image::imageops::crop_imm(&image, left, top, width, height).to_image();
        let [part, alone] = [Source::part(&image, area), Source::whole(&cut)].map(|source| {
            let mut out = vec![0; 24 * 24 * 3];
            resize(
                source,
                [24; 2],
                Window::whole([24; 2]),
                Interpolation::Bicubic,
                &mut out,
            );
            out
        });
        assert!(part == alone, "{area:?}");
    }
}

/// The image's size, its part, the output's size, the filter, and PIL's result.
type Case = ([u32; 2], [u32; 4], [u32; 2], String, Vec<u8>);

#[test]
fn parts_are_resized_as_by_pil() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../tests/fixtures/crops.json")).unwrap();
    for (number, (size, part, to, filter, wanted)) in cases.into_iter().enumerate() {
        let pixels = (0..size[0] as usize * size[1] as usize * 3).map(|at| {
            let level = (7919 * number + 104_729 * at + at * at / 7) % 256;
            let level = if at % 3 == 0 {
                (at / 5 + number) % 2 * 255
            } else {
                level
            };
            u8::try_from(level).unwrap()
        });
        let image = RgbImage::from_raw(size[0], size[1], pixels.collect()).unwrap();
        let [left, top, width, height] = part;
        let area = Window {
            left,
            top,
            width,
            height,
        };
        let kind = match filter.as_str() {
            "bicubic" => Interpolation::Bicubic,
            "bilinear" => Interpolation::Bilinear,
            "box" => Interpolation::Box,
            "hamming" => Interpolation::Hamming,
            "lanczos" => Interpolation::Lanczos,
            _ => Interpolation::Nearest,
        };
        let mut out = vec![0; wanted.len()];
        resize(
            Source::part(&image, area),
            to,
            Window::whole(to),
            kind,
            &mut out,
        );
        assert!(out == wanted, "{size:?} {part:?} to {to:?}, {filter}");
    }
}
