//! Text as pixels: GNU Unifont, which has a glyph of 8 or 16 by 16 pixels for most scripts.

use unicode_normalization::char::is_combining_mark;
use unifont::{Glyph, get_glyph};

/// Height of a line of text, in pixels.
pub(super) const LINE: usize = 16;
/// Drawn for characters without a glyph.
const MISSING: char = '□';

/// The glyphs of a text with their distances from its start. Marks are on the letter before them.
fn placed(text: &str) -> Vec<(usize, &'static Glyph)> {
    let mut glyphs = Vec::new();
    let (mut end, mut letter) = (0, 0);
    for character in in_visual_order(text) {
        let Some(glyph) = get_glyph(character).or_else(|| get_glyph(MISSING)) else {
            continue;
        };
        if is_combining_mark(character) {
            glyphs.push((letter, glyph));
        } else {
            glyphs.push((end, glyph));
            letter = end;
            end += glyph.get_width();
        }
    }
    glyphs
}

/// The characters of a text from left to right: stretches of Hebrew, Arabic and the like, which are read
/// from right to left, are reversed. Numbers and Latin words in such a stretch end it.
fn in_visual_order(text: &str) -> Vec<char> {
    // A letter with its marks.
    let mut letters: Vec<String> = Vec::new();
    for character in text.chars() {
        match letters.last_mut() {
            Some(letter) if is_combining_mark(character) => letter.push(character),
            _ => letters.push(character.to_string()),
        }
    }
    let is_rtl = |letter: &String| letter.starts_with(is_right_to_left);
    let goes_on = |letter: &String| is_rtl(letter) || !letter.starts_with(char::is_alphanumeric);
    let mut start = 0;
    while let Some(first) = letters[start..].iter().position(is_rtl) {
        start += first;
        let length = letters[start..]
            .iter()
            .take_while(|letter| goes_on(letter))
            .count();
        let stretch = &mut letters[start..start + length];
        let last = stretch.iter().rposition(is_rtl).unwrap_or(0);
        stretch[..=last].reverse();
        start += length;
    }
    letters.concat().chars().collect()
}

/// Hebrew, Arabic, Syriac, Thaana, N'Ko and their presentation forms.
fn is_right_to_left(character: char) -> bool {
    matches!(character, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}')
}

/// The width of a text, in pixels.
pub(super) fn text_width(text: &str) -> usize {
    let ends = placed(text).into_iter();
    let ends = ends.map(|(start, glyph)| start + glyph.get_width());
    ends.max().unwrap_or(0)
}

/// Calls `draw` with the place of each pixel of a text: from its start, and from its top.
pub(super) fn each_pixel(text: &str, mut draw: impl FnMut(usize, usize)) {
    for (start, glyph) in placed(text) {
        for y in 0..LINE {
            for x in (0..glyph.get_width()).filter(|x| glyph.get_pixel(*x, y)) {
                draw(start + x, y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_glyphs_and_marks_no_width() {
        let missing = get_glyph(MISSING).unwrap();
        for text in [
            "cat",
            "кошка",
            "γάτα",
            "猫",
            "고양이",
            "حيوان",
            "ねこ",
            "बिल्ली",
        ] {
            for character in text.chars() {
                let glyph = get_glyph(character).unwrap();
                assert!(!std::ptr::eq(glyph, missing), "{character}");
            }
        }
        assert_eq!((text_width("cat"), text_width("猫")), (24, 16));
        assert_eq!(text_width("x\u{302}"), 8);
        let mut pixels = 0;
        each_pixel("I", |x, y| {
            assert!(x < 8 && y < 16);
            pixels += 1;
        });
        assert!(pixels > 8);
        assert_eq!(text_width("\u{f0000}"), missing.get_width());
    }

    #[test]
    fn stretches_that_are_read_from_the_right_are_reversed() {
        let order = |text: &str| in_visual_order(text).into_iter().collect::<String>();
        assert_eq!(order("אבג"), "גבא");
        assert_eq!(order("a אב גד, b"), "a דג בא, b");
        // A mark stays on its letter.
        assert_eq!(order("בּא"), "אבּ");
        assert_eq!(order("cat 猫"), "cat 猫");
    }
}
