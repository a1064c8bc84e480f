//! The dataset files of `datasets/`, which are part of the program.

/// Each name with its file.
macro_rules! files {
    ($($name:literal = $file:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../datasets/", $file)))),*]
    };
}

const DATASETS: &[(&str, &str)] = files![
    "shapes" = "shapes.toml",
    "shapes-held-out" = "shapes-held-out.toml",
    "digits" = "digits.toml",
    "mnist" = "mnist.toml",
    "cifar10" = "cifar10.toml",
    "cifar100" = "cifar100.toml",
    "imagenet" = "imagenet.toml",
    "imagenetv2" = "imagenetv2.toml",
    "coco-captions" = "coco-captions.toml",
    "flickr30k" = "flickr30k.toml",
    "wds-cars" = "wds.toml",
];

/// The lists that they name.
const LISTS: &[(&str, &str)] = files![
    "cifar/templates.txt" = "cifar/templates.txt",
    "imagenet/classnames.txt" = "imagenet/classnames.txt",
    "imagenet/templates.txt" = "imagenet/templates.txt",
];

/// How similar a word must be to a name to be meant by it, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// The names of the built-in datasets, small ones first.
pub fn built_in_datasets() -> impl Iterator<Item = &'static str> {
    DATASETS.iter().map(|(name, _)| *name)
}

/// The dataset file of that name.
pub(super) fn dataset(name: &str) -> Option<&'static str> {
    find(DATASETS, name)
}

/// The lines of a list that a built-in dataset file names.
pub(super) fn list(name: &str) -> Option<&'static str> {
    find(LISTS, name)
}

/// The built-in dataset that a misspelt name means.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let similar = |known: &'static str| (strsim::jaro_winkler(&name.to_lowercase(), known), known);
    let best = built_in_datasets().map(similar);
    let best = best.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(similar, _)| *similar >= SIMILAR)
        .map(|(_, name)| name)
}

fn find(files: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let found = files.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets");
        let mut on_disk = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "toml") {
                continue;
            }
            on_disk += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let is_listed = DATASETS.iter().any(|(_, known)| *known == text);
            assert!(is_listed, "{}", path.display());
        }
        assert_eq!(on_disk, DATASETS.len());
    }

    #[test]
    fn a_misspelt_name_has_a_nearest_one() {
        assert_eq!(nearest("cifar-10"), Some("cifar10"));
        assert_eq!(nearest("ImageNet"), Some("imagenet"));
        assert_eq!(nearest("shape"), Some("shapes"));
        assert_eq!(nearest("nowhere"), None);
    }
}
