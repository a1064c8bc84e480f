//! Decodes images for `experiments/data/differential.py`, which compares their pixels with PIL's.
//!
//! On standard input: files, each after its length as a little-endian `u32`. On standard output, for
//! each, width and height as `u32` and `[height, width, 3]` bytes; or 0, the length of an error's message,
//! and the message.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};

use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, ImageData, SampleError, decode};
use image::RgbImage;

fn main() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    loop {
        let mut len = [0; 4];
        match input.read_exact(&mut len) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        input.read_exact(&mut bytes)?;
        let decoded = decode(ImageData::Encoded(bytes), DEFAULT_MAX_IMAGE_PIXELS);
        answer(decoded, &mut output)?;
        output.flush()?;
    }
}

fn answer(decoded: Result<RgbImage, SampleError>, output: &mut impl Write) -> io::Result<()> {
    let (head, body) = match decoded {
        Ok(image) => ([image.width(), image.height()], image.into_raw()),
        Err(error) => {
            let message = error.to_string().into_bytes();
            let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
            ([0, len], message)
        }
    };
    for number in head {
        output.write_all(&number.to_le_bytes())?;
    }
    output.write_all(&body)
}
