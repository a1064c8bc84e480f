//! The sizes that transformers' image processors take.

use serde_json::Value;

use crate::spec::ResizeMode;

/// A size as the side of a square or as the shorter side. Source: transformers `get_size_dict`.
/// - to_square: whether a single number is the side of a square.
pub(super) fn parse_size(size: &Value, to_square: bool) -> Result<(ResizeMode, u32), &'static str> {
    const EXPECTED: &str = "expected a number of pixels, {\"shortest_edge\"}, or {\"height\", \
                            \"width\"}";
    let pixels = |value: &Value| {
        let pixels = value.as_u64().and_then(|side| u32::try_from(side).ok());
        pixels.filter(|side| *side > 0).ok_or(EXPECTED)
    };
    let square = |height, width| {
        let (height, width) = (pixels(height)?, pixels(width)?);
        if height == width {
            Ok((ResizeMode::Squash, height))
        } else {
            Err("only squares are supported here")
        }
    };
    match size {
        Value::Array(sides) => match sides.as_slice() {
            [height, width] => square(height, width),
            _ => Err(EXPECTED),
        },
        Value::Object(sides) => {
            let given = sides.values().filter(|side| !side.is_null()).count();
            let get = |key| sides.get(key).filter(|edge| !edge.is_null());
            match (given, get("shortest_edge"), get("height"), get("width")) {
                (1, Some(edge), _, _) => Ok((ResizeMode::Shortest, pixels(edge)?)),
                (2, _, Some(height), Some(width)) => square(height, width),
                _ => Err(EXPECTED),
            }
        }
        one if to_square => Ok((ResizeMode::Squash, pixels(one)?)),
        one => Ok((ResizeMode::Shortest, pixels(one)?)),
    }
}
