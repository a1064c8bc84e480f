//! Keys of data that is cached on disk, which must stay the same across Rust releases.

use std::hash::Hasher;

use twox_hash::XxHash64;

/// XXH64 over bytes that are the same on every machine: integers are little-endian and as wide as
/// their type, `usize` is 64 bits wide, and a text follows its length.
///
/// `std::hash::DefaultHasher` may change its algorithm with any release, and so may the derived
/// `Hash` of an enum: write the numbers and texts that make up a key explicitly.
#[derive(Debug, Clone)]
pub struct Fingerprint(XxHash64);

impl Fingerprint {
    /// - format: identifies the layout of the bytes; two formats never share a key.
    pub fn new(format: &str) -> Self {
        let mut fingerprint = Self(XxHash64::with_seed(0));
        fingerprint.write_text(format);
        fingerprint
    }

    /// Writes the text's length in bytes and its UTF-8 bytes.
    pub fn write_text(&mut self, text: &str) {
        self.write_usize(text.len());
        self.write(text.as_bytes());
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the reference implementation, XXH64 with seed 0, over the bytes in the comments.
    #[test]
    fn keys_never_change() {
        // 01 00 00 00 00 00 00 00, "k"
        let mut key = Fingerprint::new("k");
        assert_eq!(key.finish(), 0x1088_e631_c306_29d1);
        // … 02 00 00 00 00 00 00 00, "ab", 03 00 00 00, ff ff ff ff ff ff ff ff
        key.write_text("ab");
        key.write_i32(3);
        key.write_isize(-1);
        assert_eq!(key.finish(), 0x1ee5_a095_4158_8783);
    }

    #[test]
    fn adjacent_texts_are_kept_apart() {
        let key = |texts: [&str; 2]| {
            let mut key = Fingerprint::new("texts");
            for text in texts {
                key.write_text(text);
            }
            key.finish()
        };
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
    }
}
