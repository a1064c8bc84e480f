//! Contents of files and their hashes.

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Bytes that differ from place to place.
pub fn content(length: usize) -> Vec<u8> {
    let mut value = 1_u32;
    (0..length)
        .map(|_| {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            value.to_be_bytes()[0]
        })
        .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

pub fn git_hash(bytes: &[u8]) -> String {
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".model"]
        .iter()
        .any(|extension| name.ends_with(extension))
}
