//! The layout of a confusion matrix: rectangles and texts, which become an SVG or a PNG image.

use couplet_data::printable;
use unicode_normalization::UnicodeNormalization;

use super::glyphs::{LINE, text_width};
use super::matrix::ConfusionMatrix;

/// Side of a matrix of a few classes, in pixels.
const SIDE: usize = 640;
/// The largest cell, and the smallest whose class is named.
const LARGEST: usize = 72;
const SMALLEST_NAMED: usize = 18;
/// The most classes that are named.
const MOST_NAMED: usize = 150;
/// Side of a matrix of more classes.
const LARGE_SIDE: usize = 2400;
/// Least distance of class numbers where classes are not named.
const TICKS: usize = 48;
/// Distance of texts from what they belong to, and of everything from the edge.
const GAP: usize = 6;
const EDGE: usize = 16;
/// Wider labels are divided into lines where cells are high enough.
const LONG_LABEL: usize = 160;
/// Numbers in cells are at most this wide for a matrix of many classes to be enlarged for them.
const LARGEST_FOR_NUMBERS: usize = 36;

const BLACK: Color = [0x22, 0x22, 0x22];
const WHITE: Color = [0xff, 0xff, 0xff];
const GROUND: Color = [0xf4, 0xf6, 0xfa];
const FRAME: Color = [0x99, 0x99, 0x99];
const RIGHT: Color = [0x1f, 0x5f, 0xbf];
const WRONG: Color = [0xc0, 0x39, 0x2b];

/// Red, green and blue.
pub(super) type Color = [u8; 3];

/// What is drawn, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    Rect {
        left: usize,
        top: usize,
        width: usize,
        height: usize,
        fill: Color,
        /// Shown where the pointer is, if the format can.
        title: Option<String>,
    },
    Text {
        /// Where the middle of the line's height is, and where its anchor is along the line.
        x: usize,
        y: usize,
        anchor: Anchor,
        /// Whether it is read from below to above.
        is_vertical: bool,
        text: String,
        fill: Color,
    },
}

/// Which point of a text is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture of `width` by `height` pixels on white.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    pub marks: Vec<Mark>,
}

/// Where the matrix is, and how large its cells are.
struct Layout {
    cell: usize,
    left: usize,
    top: usize,
    side: usize,
    is_named: bool,
}

impl Picture {
    pub fn new(matrix: &ConfusionMatrix) -> Self {
        let classes = matrix.classes().max(1);
        let is_named = classes <= MOST_NAMED;
        let cell = cell_size(classes, &matrix.counts);
        let names: Vec<Vec<String>> = (matrix.class_names.iter().enumerate())
            .map(|(class, name)| lines(&label(class, name, is_named), cell / LINE))
            .collect();
        let widths = names.iter().flatten().map(|line| text_width(line));
        let margin = widths.max().unwrap_or(0) + 2 * GAP;
        let title = title(matrix);
        let header = 2 * LINE + GAP;
        let layout = Layout {
            cell,
            left: EDGE + LINE + margin,
            top: EDGE + header + LINE + margin,
            side: cell * classes,
            is_named,
        };
        let mut picture = Self {
            width: 0,
            height: 0,
            marks: Vec::new(),
        };
        picture.text((EDGE, EDGE + LINE / 2), Anchor::Start, &title);
        picture.cells(matrix, &layout);
        picture.names(&names, &layout);
        let middle = layout.side / 2;
        let axis = (layout.left + middle, EDGE + header + LINE / 2);
        picture.text(axis, Anchor::Middle, "predicted class");
        picture.push_text(
            (EDGE + LINE / 2, layout.top + middle),
            Anchor::Middle,
            true,
            "class",
            BLACK,
        );
        let below = layout.top + layout.side + LINE;
        let legend = picture.legend(below);
        picture.height = below + 2 * (LINE + GAP) + EDGE;
        // The axis' name and the title may be wider than a small matrix.
        let axis_end = axis.0 + text_width("predicted class") / 2;
        let ends = [
            layout.left + layout.side,
            legend,
            EDGE + text_width(&title),
            axis_end,
        ];
        picture.width = ends.into_iter().max().unwrap_or(0) + EDGE;
        picture
    }

    fn cells(&mut self, matrix: &ConfusionMatrix, layout: &Layout) {
        let Layout {
            cell,
            left,
            top,
            side,
            ..
        } = *layout;
        self.rect((left - 1, top - 1), (side + 2, side + 2), FRAME, None);
        self.rect((left, top), (side, side), GROUND, None);
        for class in 0..matrix.classes() {
            let images = matrix.images_of(class);
            let counts = matrix.row(class).iter().enumerate();
            for (other, count) in counts.filter(|(_, count)| **count > 0) {
                let (x, y) = (left + other * cell, top + class * cell);
                let share = f64::from(*count) / f64::from(images.max(1));
                let fill = shade(if class == other { RIGHT } else { WRONG }, share);
                let [name, predicted] = [class, other].map(|at| plain(&matrix.class_names[at]));
                let title = format!("{name} as {predicted}: {count} of {images}");
                // A line of ground between large cells.
                let line = usize::from(cell >= SMALLEST_NAMED);
                self.rect((x, y), (cell - line, cell - line), fill, Some(title));
                let number = count.to_string();
                if cell > LINE && text_width(&number) + 2 <= cell {
                    let fill = readable_on(fill);
                    let middle = (x + cell / 2, y + cell / 2);
                    self.push_text(middle, Anchor::Middle, false, &number, fill);
                }
            }
        }
    }

    /// The classes' names at the left and above; of many classes, the numbers of some.
    fn names(&mut self, names: &[Vec<String>], layout: &Layout) {
        let Layout {
            cell, left, top, ..
        } = *layout;
        let every = if layout.is_named {
            1
        } else {
            TICKS.div_ceil(cell)
        };
        for (class, name) in names.iter().enumerate().step_by(every) {
            let first = class * cell + cell / 2 - (name.len() - 1) * LINE / 2;
            for (at, line) in name.iter().enumerate() {
                let middle = first + at * LINE;
                self.text((left - GAP, top + middle), Anchor::End, line);
                self.push_text((left + middle, top - GAP), Anchor::Start, true, line, BLACK);
            }
        }
    }

    /// What the colors mean.
    /// - returns its right end.
    fn legend(&mut self, top: usize) -> usize {
        let words = ["right", "wrong"];
        let wide = words.map(text_width).into_iter().max().unwrap_or(0);
        let (box_width, mut end) = (2 * LINE + 8, 0);
        for (row, (word, color)) in words.into_iter().zip([RIGHT, WRONG]).enumerate() {
            let y = top + row * (LINE + GAP);
            self.text((EDGE, y + LINE / 2), Anchor::Start, word);
            for (at, percent) in [1.0f64, 25.0, 50.0, 75.0, 100.0].into_iter().enumerate() {
                let x = EDGE + wide + GAP + at * box_width;
                let ground = shade(color, percent / 100.0);
                self.rect((x, y), (box_width, LINE), ground, None);
                let fill = readable_on(ground);
                let middle = (x + box_width / 2, y + LINE / 2);
                self.push_text(middle, Anchor::Middle, false, &format!("{percent}%"), fill);
                end = x + box_width;
            }
        }
        let text = "of the class's images";
        self.text((end + GAP, top + LINE / 2), Anchor::Start, text);
        end + GAP + text_width(text)
    }

    fn rect(
        &mut self,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        fill: Color,
        title: Option<String>,
    ) {
        self.marks.push(Mark::Rect {
            left,
            top,
            width,
            height,
            fill,
            title,
        });
    }

    fn text(&mut self, at: (usize, usize), anchor: Anchor, text: &str) {
        self.push_text(at, anchor, false, text, BLACK);
    }

    fn push_text(
        &mut self,
        (x, y): (usize, usize),
        anchor: Anchor,
        is_vertical: bool,
        text: &str,
        fill: Color,
    ) {
        self.marks.push(Mark::Text {
            x,
            y,
            anchor,
            is_vertical,
            text: text.to_string(),
            fill,
        });
    }
}

/// A name without control characters, composed.
fn plain(name: &str) -> String {
    printable(name).nfc().collect()
}

/// What a class is called at the axes.
fn label(class: usize, name: &str, is_named: bool) -> String {
    if is_named {
        plain(name)
    } else {
        class.to_string()
    }
}

/// A label in as many lines as fit in a cell, if it is long.
fn lines(label: &str, most: usize) -> Vec<String> {
    let whole = text_width(label);
    let mut width = LONG_LABEL.max(whole / most.max(1));
    while most > 1 && width < whole {
        let lines = wrap(label, width);
        if lines.len() <= most {
            return lines;
        }
        width += LINE;
    }
    vec![label.to_string()]
}

/// Lines of words, each at most `width` pixels wide if no word is wider.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(" ") + text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn title(matrix: &ConfusionMatrix) -> String {
    let classes = 0..matrix.classes();
    let images: u32 = classes.map(|class| matrix.images_of(class)).sum();
    let accuracy = 100.0 * matrix.accuracy();
    format!("{accuracy:.2}% of {images} images are right")
}

/// Cells as large as the picture allows, so that names and, of not too many classes, numbers fit.
fn cell_size(classes: usize, counts: &[u32]) -> usize {
    if classes > MOST_NAMED {
        return (LARGE_SIDE / classes).max(1);
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let for_numbers = text_width(&most.to_string()) + 4;
    let least = SMALLEST_NAMED.max(for_numbers.min(LARGEST_FOR_NUMBERS));
    (SIDE / classes).clamp(least, LARGEST)
}

/// The color of a text on another color.
fn readable_on([red, green, blue]: Color) -> Color {
    // ITU-R BT.601.
    let luma = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    if luma < 130_000 { WHITE } else { BLACK }
}

/// A color on the ground, darker the larger the share is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between two bytes"
)]
fn shade(color: Color, share: f64) -> Color {
    let strength = 0.12 + 0.88 * share;
    let mix = |from: u8, to: u8| {
        let (from, to) = (f64::from(from), f64::from(to));
        (from + (to - from) * strength).round() as u8
    };
    [0, 1, 2].map(|at| mix(GROUND[at], color[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(names: &[String]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(names);
        for class in 0..names.len() {
            for _ in 0..30 {
                matrix.add(class, Some(class));
            }
            matrix.add(class, Some((class + 1) % names.len()));
        }
        matrix
    }

    /// Whether all texts are inside of the picture.
    fn check_inside(picture: &Picture) {
        for mark in &picture.marks {
            let Mark::Text {
                x,
                y,
                anchor,
                is_vertical,
                text,
                ..
            } = mark
            else {
                continue;
            };
            let long = text_width(text);
            let before = match anchor {
                Anchor::Start => 0,
                Anchor::Middle => long / 2,
                Anchor::End => long,
            };
            let after = long - before;
            let ends = if *is_vertical {
                assert!(*y >= after, "{text}");
                (x + LINE / 2, y + before)
            } else {
                assert!(*x >= before, "{text}");
                (x + after, y + LINE / 2)
            };
            assert!(
                ends.0 <= picture.width && ends.1 <= picture.height,
                "{text}"
            );
        }
    }

    fn texts(picture: &Picture) -> Vec<&str> {
        let marks = picture.marks.iter();
        let texts = marks.filter_map(|mark| match mark {
            Mark::Text { text, .. } => Some(&text[..]),
            Mark::Rect { .. } => None,
        });
        texts.collect()
    }

    #[test]
    fn names_are_whole_and_everything_is_inside() {
        let long =
            "a photo of a very long class name that nobody would cut, 犬と猫とネズミ".to_string();
        for classes in [1, 2, 3, 10, 47, 100, 151, 1000] {
            let mut names: Vec<String> = (0..classes).map(|at| format!("class {at}")).collect();
            names[0].clone_from(&long);
            let picture = Picture::new(&matrix(&names));
            check_inside(&picture);
            let texts = texts(&picture);
            let across = picture.marks.iter().filter_map(|mark| match mark {
                Mark::Text {
                    text,
                    is_vertical: false,
                    ..
                } => Some(&text[..]),
                _ => None,
            });
            let all = across.collect::<Vec<_>>().join(" ");
            assert_eq!(all.contains(&long), classes <= MOST_NAMED, "{classes}");
            for text in ["class", "predicted class", "right", "wrong", "100%"] {
                assert!(texts.contains(&text), "{classes}: {text}");
            }
            // The numbers of the cells.
            let number = if classes == 1 { "31" } else { "30" };
            assert_eq!(texts.contains(&number), classes <= 100, "{classes}");
            assert!(picture.width.max(picture.height) < 4000, "{classes}");
        }
    }

    #[test]
    fn long_labels_are_divided_where_cells_are_high() {
        let long = "a photo of a very long class name that nobody would cut";
        assert_eq!(lines(long, 1), [long]);
        let divided = lines(long, 4);
        assert!((2..=4).contains(&divided.len()), "{divided:?}");
        assert_eq!(divided.join(" "), long);
        assert_eq!(lines("short name", 4), ["short name"]);
        let word = "Donaudampfschifffahrtsgesellschaft".repeat(3);
        assert_eq!(lines(&word, 4), [word]);
    }

    #[test]
    fn control_characters_of_names_are_escaped() {
        let names = ["a\u{1b}[31m".to_string(), "e\u{301}".to_string()];
        let picture = Picture::new(&matrix(&names));
        let texts = texts(&picture);
        assert!(texts.iter().all(|text| !text.contains('\u{1b}')));
        assert!(texts.contains(&"é"));
    }
}
