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

/// Those of DataComp's tasks (`datacomp.rs`).
const DATACOMP: &[(&str, &str)] = files![
    "datacomp-caltech101" = "datacomp/caltech101.toml",
    "datacomp-cifar10" = "datacomp/cifar10.toml",
    "datacomp-cifar100" = "datacomp/cifar100.toml",
    "datacomp-clevr-counts" = "datacomp/clevr-counts.toml",
    "datacomp-clevr-distance" = "datacomp/clevr-distance.toml",
    "datacomp-country211" = "datacomp/country211.toml",
    "datacomp-dtd" = "datacomp/dtd.toml",
    "datacomp-eurosat" = "datacomp/eurosat.toml",
    "datacomp-fgvc-aircraft" = "datacomp/fgvc-aircraft.toml",
    "datacomp-food101" = "datacomp/food101.toml",
    "datacomp-gtsrb" = "datacomp/gtsrb.toml",
    "datacomp-imagenet1k" = "datacomp/imagenet1k.toml",
    "datacomp-imagenet-sketch" = "datacomp/imagenet-sketch.toml",
    "datacomp-imagenetv2" = "datacomp/imagenetv2.toml",
    "datacomp-imagenet-a" = "datacomp/imagenet-a.toml",
    "datacomp-imagenet-o" = "datacomp/imagenet-o.toml",
    "datacomp-imagenet-r" = "datacomp/imagenet-r.toml",
    "datacomp-kitti-distance" = "datacomp/kitti-distance.toml",
    "datacomp-mnist" = "datacomp/mnist.toml",
    "datacomp-objectnet" = "datacomp/objectnet.toml",
    "datacomp-flowers" = "datacomp/flowers.toml",
    "datacomp-pets" = "datacomp/pets.toml",
    "datacomp-voc2007" = "datacomp/voc2007.toml",
    "datacomp-pcam" = "datacomp/pcam.toml",
    "datacomp-rendered-sst2" = "datacomp/rendered-sst2.toml",
    "datacomp-resisc45" = "datacomp/resisc45.toml",
    "datacomp-cars" = "datacomp/cars.toml",
    "datacomp-stl10" = "datacomp/stl10.toml",
    "datacomp-sun397" = "datacomp/sun397.toml",
    "datacomp-svhn" = "datacomp/svhn.toml",
    "datacomp-flickr30k" = "datacomp/flickr30k.toml",
    "datacomp-mscoco" = "datacomp/mscoco.toml",
    "datacomp-iwildcam" = "datacomp/iwildcam.toml",
    "datacomp-camelyon17" = "datacomp/camelyon17.toml",
];

/// The lists that they name.
const LISTS: &[(&str, &str)] = files![
    "cifar/templates.txt" = "cifar/templates.txt",
    "imagenet/classnames.txt" = "imagenet/classnames.txt",
    "imagenet/templates.txt" = "imagenet/templates.txt",
];

/// How similar a word must be to a name to be meant by it, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// The names of the built-in datasets, small ones first, without those of DataComp's tasks.
pub fn built_in_datasets() -> impl Iterator<Item = &'static str> {
    DATASETS.iter().map(|(name, _)| *name)
}

/// The dataset file of that name.
pub(super) fn dataset(name: &str) -> Option<&'static str> {
    find(DATASETS, name).or_else(|| find(DATACOMP, name))
}

/// The lines of a list that a built-in dataset file names.
pub(super) fn list(name: &str) -> Option<&'static str> {
    find(LISTS, name)
}

/// The built-in dataset that a misspelt name means.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let similar = |known: &'static str| (strsim::jaro_winkler(&name.to_lowercase(), known), known);
    let all = DATASETS.iter().chain(DATACOMP).map(|(name, _)| *name);
    let best = all.map(similar);
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
        for (folder, known) in [
            (folder.to_string(), DATASETS),
            (format!("{folder}/datacomp"), DATACOMP),
        ] {
            let mut on_disk = 0;
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|end| end != "toml") {
                    continue;
                }
                on_disk += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                let is_listed = known.iter().any(|(_, known)| *known == text);
                assert!(is_listed, "{}", path.display());
            }
            assert_eq!(on_disk, known.len());
        }
    }

    #[test]
    fn a_misspelt_name_has_a_nearest_one() {
        assert_eq!(nearest("cifar-10"), Some("cifar10"));
        assert_eq!(nearest("ImageNet"), Some("imagenet"));
        assert_eq!(nearest("shape"), Some("shapes"));
        assert_eq!(nearest("nowhere"), None);
    }
}
