//! Models by name, as data files under `presets/`, named as open_clip names them.
//! The `Ti` presets are ours: small enough to train on a CPU.

use crate::ModelSpec;

const FILES: &[(&str, &str)] = &[
    ("ViT-Ti-8-32", include_str!("../presets/ViT-Ti-8-32.toml")),
    ("ViT-Ti-8-64", include_str!("../presets/ViT-Ti-8-64.toml")),
    ("ViT-Ti-16-64", include_str!("../presets/ViT-Ti-16-64.toml")),
    ("ViT-S-32", include_str!("../presets/ViT-S-32.toml")),
    ("ViT-S-16", include_str!("../presets/ViT-S-16.toml")),
    ("ViT-B-32", include_str!("../presets/ViT-B-32.toml")),
    (
        "ViT-B-32-quickgelu",
        include_str!("../presets/ViT-B-32-quickgelu.toml"),
    ),
    ("ViT-B-16", include_str!("../presets/ViT-B-16.toml")),
    (
        "ViT-B-16-quickgelu",
        include_str!("../presets/ViT-B-16-quickgelu.toml"),
    ),
    ("ViT-L-14", include_str!("../presets/ViT-L-14.toml")),
    (
        "ViT-L-14-quickgelu",
        include_str!("../presets/ViT-L-14-quickgelu.toml"),
    ),
    ("ViT-L-14-336", include_str!("../presets/ViT-L-14-336.toml")),
    (
        "ViT-L-14-336-quickgelu",
        include_str!("../presets/ViT-L-14-336-quickgelu.toml"),
    ),
];

/// The names of all presets, small ones first.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The preset of that name, or `None`.
///
/// # Panics
/// Never with the committed files: a test parses each of them.
pub fn find(name: &str) -> Option<ModelSpec> {
    let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(toml::from_str(text).expect("a preset file parses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses_and_is_sound() {
        for name in names() {
            assert_eq!(find(name).unwrap().problems(), [], "{name}");
        }
        assert!(find("ViT-B-33").is_none());
    }

    #[test]
    fn every_preset_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
        let mut on_disk: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|file| file.trim_end_matches(".toml").to_string())
            .collect();
        on_disk.sort();
        let mut listed: Vec<_> = names().map(str::to_string).collect();
        listed.sort();
        assert_eq!(on_disk, listed);
    }
}
