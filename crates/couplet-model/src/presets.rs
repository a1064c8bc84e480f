//! Specs by open_clip's model names, as data files under `presets/`. The `Ti` presets are
//! Couplet's own: small enough to train on a CPU.

use crate::spec::ModelSpec;

/// Each name with its file.
macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../presets/", $name, ".toml")))),*]
    };
}

const FILES: &[(&str, &str)] = presets![
    "ViT-Ti-8-32",
    "ViT-Ti-8-64",
    "ViT-Ti-8-64-siglip",
    "ViT-Ti-16-64",
    "ViT-S-32",
    "ViT-S-16",
    "RN50",
    "RN50-quickgelu",
    "RN101",
    "RN101-quickgelu",
    "RN50x4",
    "RN50x4-quickgelu",
    "RN50x16",
    "RN50x16-quickgelu",
    "RN50x64",
    "RN50x64-quickgelu",
    "ViT-B-32",
    "ViT-B-32-quickgelu",
    "ViT-B-16",
    "ViT-B-16-quickgelu",
    "ViT-L-14",
    "ViT-L-14-quickgelu",
    "ViT-L-14-336",
    "ViT-L-14-336-quickgelu",
    "ViT-H-14",
    "ViT-H-14-quickgelu",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "ViT-B-16-SigLIP-256",
    "ViT-B-16-SigLIP-i18n-256",
    "ViT-B-16-SigLIP2-256",
    "ViT-B-32-SigLIP2-256",
    "ViT-B-16-SigLIP-384",
    "ViT-B-16-SigLIP2-384",
    "ViT-B-16-SigLIP-512",
    "ViT-B-16-SigLIP2-512",
    "ViT-L-16-SigLIP-256",
    "ViT-L-16-SigLIP2-256",
    "ViT-L-16-SigLIP-384",
    "ViT-L-16-SigLIP2-384",
    "ViT-L-16-SigLIP2-512",
    "ViT-SO400M-14-SigLIP",
    "ViT-SO400M-14-SigLIP2",
    "ViT-SO400M-16-SigLIP-i18n-256",
    "ViT-SO400M-16-SigLIP2-256",
    "ViT-SO400M-14-SigLIP-378",
    "ViT-SO400M-14-SigLIP2-378",
    "ViT-SO400M-14-SigLIP-384",
    "ViT-SO400M-16-SigLIP2-384",
    "ViT-SO400M-16-SigLIP2-512",
    "ViT-gopt-16-SigLIP2-256",
    "ViT-gopt-16-SigLIP2-384",
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
