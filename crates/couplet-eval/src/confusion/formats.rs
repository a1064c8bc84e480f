//! A picture as an SVG or a PNG image.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

use super::glyphs::{LINE, each_pixel, text_width};
use super::matrix::ConfusionMatrix;
use super::picture::{Anchor, Color, Mark, Picture};

impl ConfusionMatrix {
    /// The matrix as an SVG image: rows are classes, columns are predicted classes, and a cell is darker
    /// the larger its fraction of the row, whose number of images it has where it fits. Up to 150 classes
    /// are named; of more, the axes have their numbers.
    pub fn to_svg(&self) -> String {
        to_svg(&Picture::new(self))
    }

    /// As [`Self::to_svg`], as a PNG image. Texts are in GNU Unifont, without the shaping of scripts that
    /// join letters.
    ///
    /// # Errors
    /// If the picture cannot be encoded, as one of more than 4 GiB.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        to_png(&Picture::new(self))
    }
}

/// The picture as SVG. Texts are texts, in the reader's font.
fn to_svg(picture: &Picture) -> String {
    let Picture { width, height, .. } = picture;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for mark in &picture.marks {
        match mark {
            Mark::Rect {
                left,
                top,
                width,
                height,
                fill,
                title,
            } => {
                let fill = hex(*fill);
                let title = title.as_ref().map_or(String::new(), |title| {
                    format!("<title>{}</title>", escaped(title))
                });
                svg.push_str(&format!(
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" \
                     fill=\"{fill}\">{title}</rect>\n"
                ));
            }
            Mark::Text {
                x,
                y,
                anchor,
                is_vertical,
                text,
                fill,
            } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let turn = if *is_vertical {
                    format!(" transform=\"rotate(-90 {x} {y})\"")
                } else {
                    String::new()
                };
                let (fill, text) = (hex(*fill), escaped(text));
                svg.push_str(&format!(
                    "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" \
                     dominant-baseline=\"central\" fill=\"{fill}\"{turn}>{text}</text>\n"
                ));
            }
        }
    }
    svg + "</svg>\n"
}

/// The picture as PNG.
fn to_png(picture: &Picture) -> Result<Vec<u8>, ImageError> {
    let mut canvas = Canvas {
        width: picture.width,
        height: picture.height,
        pixels: vec![255; 3 * picture.width * picture.height],
    };
    for mark in &picture.marks {
        canvas.draw(mark);
    }
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let (width, height) = (side(canvas.width), side(canvas.height));
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(
        &canvas.pixels,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(png)
}

struct Canvas {
    width: usize,
    height: usize,
    /// `[height, width, 3]`
    pixels: Vec<u8>,
}

impl Canvas {
    fn draw(&mut self, mark: &Mark) {
        match mark {
            Mark::Rect {
                left,
                top,
                width,
                height,
                fill,
                ..
            } => {
                for y in *top..top + height {
                    for x in *left..left + width {
                        self.set(x, y, *fill);
                    }
                }
            }
            Mark::Text {
                x,
                y,
                anchor,
                is_vertical,
                text,
                fill,
            } => {
                let before = match anchor {
                    Anchor::Start => 0,
                    Anchor::Middle => text_width(text) / 2,
                    Anchor::End => text_width(text),
                };
                each_pixel(text, |along, down| {
                    if *is_vertical {
                        self.set(
                            (x + down).wrapping_sub(LINE / 2),
                            (y + before).wrapping_sub(along),
                            *fill,
                        );
                    } else {
                        self.set(
                            (x + along).wrapping_sub(before),
                            (y + down).wrapping_sub(LINE / 2),
                            *fill,
                        );
                    }
                });
            }
        }
    }

    /// Pixels outside of the picture are left out.
    fn set(&mut self, x: usize, y: usize, color: Color) {
        if x < self.width && y < self.height {
            let at = 3 * (y * self.width + x);
            self.pixels[at..at + 3].copy_from_slice(&color);
        }
    }
}

fn hex([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
