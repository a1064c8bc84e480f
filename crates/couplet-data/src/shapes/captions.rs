//! Captions in varied words: most name shape and color, some only one of them.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::scene::{COLOURS, SHAPES, Scene};

const FRAMES: [&str; 14] = [
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "there is {} in the picture",
    "here we see {}",
    "{} and nothing else",
    "this is {}",
    "someone drew {}",
    "I can see {}",
    "the picture shows {}",
    "just {}",
    "look at {}",
];

const BIG: [&str; 3] = ["large", "big", "huge"];
const SMALL: [&str; 3] = ["small", "little", "tiny"];
const DARK: [&str; 3] = [
    "on a dark background",
    "against the dark",
    "in front of a dark wall",
];
const GREY: [&str; 3] = [
    "on a grey background",
    "against grey",
    "in front of a grey wall",
];

pub(super) fn caption(scene: &Scene, rng: &mut ChaCha8Rng) -> String {
    let shape = SHAPES[scene.shape];
    let colour = COLOURS[scene.colour].0;
    let mut thing = match rng.random_range(0..20) {
        0..7 => shape.to_string(),
        7 => format!("{colour} thing"),
        8 => format!("{shape} that is {colour}"),
        9 => format!("{shape} in {colour}"),
        _ => format!("{colour} {shape}"),
    };
    if rng.random_bool(0.2) {
        let words = match scene.radius {
            r if r > 0.4 => Some(&BIG),
            r if r < 0.34 => Some(&SMALL),
            _ => None,
        };
        if let Some(word) = words.and_then(|words| words.choose(rng)) {
            thing = format!("{word} {thing}");
        }
    }
    let article = match thing.chars().next() {
        Some('a' | 'e' | 'i' | 'o' | 'u') => "an",
        _ => "a",
    };
    thing = format!("{article} {thing}");
    if rng.random_bool(0.1) {
        thing = format!("{thing} {}", place(scene.centre));
    }
    if rng.random_bool(0.1) {
        let light = u32::from(scene.background[0]);
        let words = if light < 45 { &DARK } else { &GREY };
        thing = format!(
            "{thing} {}",
            words.choose(rng).expect("the list is not empty")
        );
    }
    let frame = FRAMES.choose(rng).expect("the list is not empty");
    let mut text = frame.replace("{}", &thing);
    if rng.random_bool(0.3) {
        text.push('.');
    }
    if rng.random_bool(0.3) {
        text[..1].make_ascii_uppercase();
    }
    text
}

fn place([x, y]: [f32; 2]) -> &'static str {
    let third = |v: f32| match v {
        v if v < 0.45 => 0,
        v if v > 0.55 => 2,
        _ => 1,
    };
    [
        ["at the top left", "at the top", "at the top right"],
        ["on the left", "in the middle", "on the right"],
        ["at the bottom left", "at the bottom", "at the bottom right"],
    ][third(y)][third(x)]
}
