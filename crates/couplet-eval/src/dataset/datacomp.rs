//! The 38 evaluation tasks of DataComp, over whose metrics its average is.
//!
//! Source: Gadre et al. 2023; the repository's `tasklist.yml` and `download_evalsets.py`. FairFace and UTKFace, which
//! are in that list too, have no metric in the average.

use serde::Serialize;

/// One of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DatacompTask {
    /// The key in DataComp's list.
    pub task: &'static str,
    pub name: &'static str,
    /// The built-in dataset; `None` if Couplet cannot compute the metric.
    pub dataset: Option<&'static str>,
    /// The metric in DataComp's average; `mean_recall@1` is the mean of recall@1 in both directions.
    pub metric: &'static str,
    /// Where to get the files.
    pub origin: &'static str,
    /// Why Couplet cannot compute the metric.
    pub unscored: Option<&'static str>,
}

/// The tasks, in the order of DataComp's list.
pub fn datacomp_tasks() -> &'static [DatacompTask] {
    &TASKS
}

/// Why a task, by its key, its name or a dataset's name that is made of them, has no dataset.
pub(super) fn unscored(sought: &str) -> Option<&'static DatacompTask> {
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let sought = plain(sought.strip_prefix("datacomp-").unwrap_or(sought));
    let mut tasks = TASKS.iter().filter(|task| task.unscored.is_some());
    tasks.find(|task| {
        let key = task.task.rsplit('/').next().unwrap_or(task.task);
        [task.task, key, task.name]
            .iter()
            .any(|own| plain(own) == sought)
    })
}

const TASKS: [DatacompTask; 38] = [
    DatacompTask {
        task: "vtab/caltech101",
        name: "Caltech-101",
        dataset: Some("datacomp-caltech101"),
        metric: "mean_per_class",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-caltech101_test",
        unscored: None,
    },
    DatacompTask {
        task: "cifar10",
        name: "CIFAR-10",
        dataset: Some("datacomp-cifar10"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_cifar10_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/cifar100",
        name: "CIFAR-100",
        dataset: Some("datacomp-cifar100"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-cifar100_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/clevr_count_all",
        name: "CLEVR Counts",
        dataset: Some("datacomp-clevr-counts"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-clevr_count_all_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/clevr_closest_object_distance",
        name: "CLEVR Distance",
        dataset: Some("datacomp-clevr-distance"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-clevr_closest_object_distance_test",
        unscored: None,
    },
    DatacompTask {
        task: "country211",
        name: "Country211",
        dataset: Some("datacomp-country211"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_country211_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/dtd",
        name: "Describable Textures",
        dataset: Some("datacomp-dtd"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-dtd_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/eurosat",
        name: "EuroSAT",
        dataset: Some("datacomp-eurosat"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-eurosat_test",
        unscored: None,
    },
    DatacompTask {
        task: "fgvc_aircraft",
        name: "FGVC Aircraft",
        dataset: Some("datacomp-fgvc-aircraft"),
        metric: "mean_per_class",
        origin: "https://huggingface.co/datasets/djghosh/wds_fgvc_aircraft_test",
        unscored: None,
    },
    DatacompTask {
        task: "food101",
        name: "Food-101",
        dataset: Some("datacomp-food101"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_food101_test",
        unscored: None,
    },
    DatacompTask {
        task: "gtsrb",
        name: "GTSRB",
        dataset: Some("datacomp-gtsrb"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_gtsrb_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenet1k",
        name: "ImageNet 1k",
        dataset: Some("datacomp-imagenet1k"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenet1k_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenet_sketch",
        name: "ImageNet Sketch",
        dataset: Some("datacomp-imagenet-sketch"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenet_sketch_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenetv2",
        name: "ImageNet v2",
        dataset: Some("datacomp-imagenetv2"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenetv2_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenet-a",
        name: "ImageNet-A",
        dataset: Some("datacomp-imagenet-a"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenet-a_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenet-o",
        name: "ImageNet-O",
        dataset: Some("datacomp-imagenet-o"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenet-o_test",
        unscored: None,
    },
    DatacompTask {
        task: "imagenet-r",
        name: "ImageNet-R",
        dataset: Some("datacomp-imagenet-r"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_imagenet-r_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/kitti_closest_vehicle_distance",
        name: "KITTI Vehicle Distance",
        dataset: Some("datacomp-kitti-distance"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-kitti_closest_vehicle_distance_test",
        unscored: None,
    },
    DatacompTask {
        task: "mnist",
        name: "MNIST",
        dataset: Some("datacomp-mnist"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_mnist_test",
        unscored: None,
    },
    DatacompTask {
        task: "objectnet",
        name: "ObjectNet",
        dataset: Some("datacomp-objectnet"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_objectnet_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/flowers",
        name: "Oxford Flowers-102",
        dataset: Some("datacomp-flowers"),
        metric: "mean_per_class",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-flowers_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/pets",
        name: "Oxford-IIIT Pet",
        dataset: Some("datacomp-pets"),
        metric: "mean_per_class",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-pets_test",
        unscored: None,
    },
    DatacompTask {
        task: "voc2007",
        name: "Pascal VOC 2007",
        dataset: Some("datacomp-voc2007"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_voc2007_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/pcam",
        name: "PatchCamelyon",
        dataset: Some("datacomp-pcam"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-pcam_test",
        unscored: None,
    },
    DatacompTask {
        task: "renderedsst2",
        name: "Rendered SST2",
        dataset: Some("datacomp-rendered-sst2"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_renderedsst2_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/resisc45",
        name: "RESISC45",
        dataset: Some("datacomp-resisc45"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-resisc45_test",
        unscored: None,
    },
    DatacompTask {
        task: "cars",
        name: "Stanford Cars",
        dataset: Some("datacomp-cars"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_cars_test",
        unscored: None,
    },
    DatacompTask {
        task: "stl10",
        name: "STL-10",
        dataset: Some("datacomp-stl10"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_stl10_test",
        unscored: None,
    },
    DatacompTask {
        task: "sun397",
        name: "SUN397",
        dataset: Some("datacomp-sun397"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_sun397_test",
        unscored: None,
    },
    DatacompTask {
        task: "vtab/svhn",
        name: "SVHN",
        dataset: Some("datacomp-svhn"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_vtab-svhn_test",
        unscored: None,
    },
    DatacompTask {
        task: "retrieval/flickr_1k_test_image_text_retrieval",
        name: "Flickr",
        dataset: Some("datacomp-flickr30k"),
        metric: "mean_recall@1",
        origin: "https://huggingface.co/datasets/clip-benchmark/wds_flickr30k",
        unscored: None,
    },
    DatacompTask {
        task: "retrieval/mscoco_2014_5k_test_image_text_retrieval",
        name: "MSCOCO",
        dataset: Some("datacomp-mscoco"),
        metric: "mean_recall@1",
        origin: "https://huggingface.co/datasets/clip-benchmark/wds_mscoco_captions",
        unscored: None,
    },
    DatacompTask {
        task: "misc/winogavil",
        name: "WinoGAViL",
        dataset: None,
        metric: "jaccard_score_10-12",
        origin: "https://huggingface.co/datasets/nlphuji/winogavil",
        unscored: Some(
            "the Jaccard index of the images that a cue is associated with is no metric of Couplet",
        ),
    },
    DatacompTask {
        task: "wilds/iwildcam",
        name: "iWildCam",
        dataset: Some("datacomp-iwildcam"),
        metric: "f1_macro",
        origin: "https://huggingface.co/datasets/djghosh/wds_wilds-iwildcam_test",
        unscored: None,
    },
    DatacompTask {
        task: "wilds/camelyon17",
        name: "Camelyon17",
        dataset: Some("datacomp-camelyon17"),
        metric: "top1",
        origin: "https://huggingface.co/datasets/djghosh/wds_wilds-camelyon17_test",
        unscored: None,
    },
    DatacompTask {
        task: "wilds/fmow",
        name: "FMoW",
        dataset: None,
        metric: "acc_worst_region",
        origin: "https://huggingface.co/datasets/djghosh/wds_wilds-fmow_test",
        unscored: Some(
            "the accuracy of the worst region needs the regions of the images, which Couplet does not read",
        ),
    },
    DatacompTask {
        task: "fairness/dollar_street",
        name: "Dollar Street",
        dataset: None,
        metric: "acc_top5_wg",
        origin: "https://huggingface.co/datasets/djghosh/wds_dollar_street_test",
        unscored: Some(
            "the top-5 accuracy of the worst income group needs the groups of the images, which Couplet does not read",
        ),
    },
    DatacompTask {
        task: "fairness/geode",
        name: "GeoDE",
        dataset: None,
        metric: "acc_wg",
        origin: "https://huggingface.co/datasets/djghosh/wds_geode_test",
        unscored: Some(
            "the accuracy of the worst region needs the regions of the images, which Couplet does not read",
        ),
    },
];

#[cfg(test)]
mod tests {
    use super::super::built_in;
    use super::*;

    #[test]
    fn every_task_is_a_dataset_with_its_metric_or_says_why_not() {
        for task in datacomp_tasks() {
            assert_eq!(task.dataset.is_none(), task.unscored.is_some(), "{task:?}");
            let Some(name) = task.dataset else { continue };
            let text = built_in::dataset(name).unwrap_or_else(|| panic!("no dataset {name}"));
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["name"].as_str(), Some(name));
            assert_eq!(table["origin"].as_str(), Some(task.origin));
            let metric = table.get("metric").and_then(toml::Value::as_str);
            assert_eq!(metric.unwrap_or("mean_recall@1"), task.metric, "{name}");
        }
        let scored = datacomp_tasks().iter().filter_map(|task| task.dataset);
        assert_eq!(scored.collect::<std::collections::HashSet<_>>().len(), 34);
    }

    #[test]
    fn a_task_without_a_dataset_is_found_by_its_names() {
        for name in ["datacomp-fmow", "wilds/fmow", "FMoW"] {
            assert_eq!(unscored(name).unwrap().task, "wilds/fmow");
        }
        assert_eq!(
            unscored("datacomp-dollar-street").unwrap().name,
            "Dollar Street"
        );
        assert_eq!(unscored("datacomp-cifar10"), None);
    }
}
