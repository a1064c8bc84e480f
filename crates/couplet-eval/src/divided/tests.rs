//! Evaluations over threads as ranks, against one rank's.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, RgbImage, Tokenizer};
use couplet_model::{ClassifierHead, Clip, PreprocessSpec, presets};

use super::*;
use crate::dataset::DatasetConfig;
use crate::division::threads::Threads;
use crate::inputs::{Inputs, read_inputs};
use crate::report::Report;
use crate::{Classification, PromptMode, classification, retrieval, zero_shot, zero_shot_by};

/// Five batches of images, the last of them not whole.
const IMAGES: usize = 4 * IMAGE_BATCH + 13;

fn encoder() -> Encoder {
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    let model = Clip::init(&spec, 0, &Device::flex());
    Encoder::new(model, &spec, &PreprocessSpec::default(), Tokenizer::clip()).unwrap()
}

fn write_image(path: &Path, seed: usize) {
    let value = |at: usize| u8::try_from((seed * 31 + at * 7) % 251).unwrap();
    let image = RgbImage::from_fn(9, 8, |x, y| {
        let at = (x * 3 + y) as usize;
        [value(at), value(at * at), value(seed)].into()
    });
    image.save(path).unwrap();
}

/// A folder of three classes, with templates.
fn class_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..IMAGES {
        let class = folder.path().join(["dog", "cat", "tree"][at % 3]);
        fs::create_dir_all(&class).unwrap();
        write_image(&class.join(format!("{at:03}.png")), at);
    }
    let templates: Vec<String> = (0..190).map(|at| format!("photo {at} of a {{}}")).collect();
    fs::write(folder.path().join("templates.txt"), templates.join("\n")).unwrap();
    folder
}

/// A folder of images with one or two captions each.
fn caption_folder(images: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..images {
        write_image(&folder.path().join(format!("{at:03}.png")), at);
        let more = if at % 2 == 0 { "\nanother one" } else { "" };
        let caption = format!("a picture with the number {}{more} {at}", at * 17);
        fs::write(folder.path().join(format!("{at:03}.txt")), caption).unwrap();
    }
    let toml = format!(
        "name = 'captions'\nsource = 'folder'\npath = '{}'\none_of_lines = true\n",
        folder.path().display()
    );
    fs::write(folder.path().join("set.toml"), toml).unwrap();
    folder
}

fn open(path: &Path) -> Dataset {
    DatasetConfig::read(path).unwrap().open(32).unwrap()
}

fn options(division: &dyn Division) -> EvalOptions<'_> {
    EvalOptions {
        division: Some(division),
        ..EvalOptions::default()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn words<T>(result: Result<T, EvalError>) -> String {
    with_causes(&result.err().unwrap())
}

/// The features that a protocol gets for two kinds of class prompts, or for captions.
fn feature_bits(encoder: &Encoder, dataset: &Dataset, options: EvalOptions) -> Vec<Vec<u32>> {
    let texts = if let Ok((class_names, templates)) = dataset.classes() {
        let prompts = [templates.to_vec(), vec!["{}".to_string()]];
        let texts = prompts.map(|templates| Texts::Classes {
            class_names,
            templates,
        });
        texts.into()
    } else {
        let captions = dataset.captions().unwrap().iter().flatten();
        vec![Texts::Captions(captions.map(String::as_str).collect())]
    };
    let inputs = read_inputs(encoder, dataset, Ok(texts), options, |_| ());
    let Inputs { images, texts } = inputs.unwrap();
    let texts = texts
        .into_iter()
        .map(|texts| texts.into_data().try_to_vec().unwrap());
    let all = texts.chain([images.values]);
    all.map(|values: Vec<f32>| bits(&values)).collect()
}

#[test]
fn any_number_of_ranks_has_the_features_of_one_bit_by_bit() {
    let encoder = encoder();
    let (classes, captions) = (class_folder(), caption_folder(IMAGES));
    for path in [classes.path(), &captions.path().join("set.toml")] {
        let dataset = open(path);
        let alone = feature_bits(&encoder, &dataset, EvalOptions::default());
        assert!(alone.iter().all(|values| !values.is_empty()));
        for ranks in [1, 2, 3, 5, 7] {
            let (found, gathered) = Threads::run(ranks, None, |division| {
                feature_bits(&encoder, &dataset, options(division))
            });
            assert!(found.iter().all(|found| *found == alone), "{ranks} ranks");
            let exchanges = if ranks == 1 { 0 } else { 2 };
            assert_eq!(gathered, vec![exchanges; ranks]);
        }
    }
}

#[test]
fn any_number_of_ranks_reports_what_one_reports() {
    let encoder = encoder();
    let (classes, captions) = (class_folder(), caption_folder(70));
    let (classes, captions) = (
        open(classes.path()),
        open(&captions.path().join("set.toml")),
    );
    let head = ClassifierHead::new(encoder.encode_texts(&["dog", "cat", "tree"]).unwrap());
    let all = |options: EvalOptions| -> Vec<Report> {
        let by_prompts = zero_shot_by(&encoder, &classes, &PromptMode::ALL, options, |_| ());
        let by_head = classification(&encoder, &head, &classes, options, |_| ());
        let by_captions = retrieval(&encoder, &captions, options, |_| ());
        let of_classes = by_prompts.unwrap().into_iter().chain([by_head.unwrap()]);
        let report = |found: Classification| found.report;
        of_classes
            .map(report)
            .chain([by_captions.unwrap()])
            .collect()
    };
    let alone = all(EvalOptions::default());
    for ranks in [2, 3] {
        let (found, _) = Threads::run(ranks, None, |division| all(options(division)));
        assert!(found.iter().all(|found| *found == alone), "{ranks} ranks");
    }
}

#[test]
fn progress_ends_with_all_images_on_every_rank() {
    let (encoder, folder) = (encoder(), caption_folder(2 * IMAGE_BATCH));
    let dataset = open(&folder.path().join("set.toml"));
    // The third rank has no images.
    let (counts, _) = Threads::run(3, None, |division| {
        let mut counts = Vec::new();
        retrieval(&encoder, &dataset, options(division), |done| {
            counts.push(done);
        })
        .unwrap();
        counts
    });
    for counts in counts {
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&(2 * IMAGE_BATCH)));
    }
}

#[test]
fn an_image_that_one_rank_cannot_read_is_everyones_error() {
    let encoder = encoder();
    let folder = class_folder();
    let dataset = open(folder.path());
    // In the order of classes: the last images are the second rank's.
    let bad = dataset.images.locate(IMAGES - 1).0;
    fs::write(&bad, b"not an image").unwrap();
    for ranks in [2, 3, 5] {
        let (errors, gathered) = Threads::run(ranks, None, |division| {
            words(zero_shot(&encoder, &dataset, options(division), |_| ()))
        });
        let start = format!("rank {}: ", ranks - 1);
        assert!(errors[0].starts_with(&start), "{}", errors[0]);
        assert!(errors[0].contains(&format!("1 of {IMAGES} images cannot be used")));
        assert!(errors[0].contains(&bad));
        assert!(errors.iter().all(|error| *error == errors[0]));
        assert_eq!(gathered, vec![2; ranks]);
    }
}

#[test]
fn a_dataset_that_differs_or_is_unfit_on_one_rank_is_everyones_error() {
    let encoder = encoder();
    let (all, fewer) = (caption_folder(70), caption_folder(69));
    let other = caption_folder(70);
    fs::write(other.path().join("007.txt"), "one\ntwo\nthree").unwrap();
    let text = caption_folder(70);
    fs::write(text.path().join("007.txt"), "something else").unwrap();
    let classes = class_folder();
    let wanted = [
        (&fewer, "rank 1: the number of images of `captions` differs"),
        (
            &other,
            "rank 1: the target of an image of `captions` differs",
        ),
        (&text, "rank 1: a text of `captions` differs"),
        (&classes, "rank 1: "),
    ];
    let all = open(&all.path().join("set.toml"));
    for (folder, start) in wanted {
        let toml = folder.path().join("set.toml");
        let path = if toml.is_file() { &toml } else { folder.path() };
        let own = open(path);
        let (errors, gathered) = Threads::run(3, None, |division| {
            let dataset = if division.rank() == 1 { &own } else { &all };
            words(retrieval(&encoder, dataset, options(division), |_| ()))
        });
        assert!(errors[0].starts_with(start), "{}", errors[0]);
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        assert_eq!(gathered, [1; 3]);
    }
}

#[test]
fn the_cache_of_rank_0_is_used_and_filled_as_by_one_rank() {
    let encoder = encoder();
    let folder = class_folder();
    let dataset = open(folder.path());
    let evaluate = |cache: &Path, division: Option<&dyn Division>| {
        let cache = FeatureCache::new(cache, &encoder);
        let options = EvalOptions {
            max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
            cache: Some(&cache),
            division,
        };
        let found = zero_shot(&encoder, &dataset, options, |_| ());
        found.unwrap().report
    };
    let files = |folder: &Path| {
        let files = fs::read_dir(folder).into_iter().flatten();
        let files = files.map(|file| file.unwrap().path());
        let mut files: Vec<_> = files
            .map(|path| {
                (
                    path.file_name().unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let (own, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alone = evaluate(own.path(), None);
    let places: Vec<_> = (0..3)
        .map(|rank| others.path().join(rank.to_string()))
        .collect();
    let evaluate_all = || {
        let (reports, gathered) = Threads::run(3, None, |division| {
            evaluate(&places[division.rank()], Some(division))
        });
        assert!(reports.iter().all(|report| *report == alone));
        assert_eq!(gathered, [2; 3]);
    };
    evaluate_all();
    let written = files(&places[0]);
    assert_eq!(written.len(), 2);
    assert_eq!(written, files(own.path()));
    assert!(places[1..].iter().all(|place| files(place).is_empty()));
    // From here on, features can only come from the cache; that of another rank does not count.
    for at in 0..dataset.images.len() {
        let path = dataset.images.locate(at).0;
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let len = fs::metadata(&path).unwrap().len();
        let file = fs::File::create(&path).unwrap();
        file.set_len(len).unwrap();
        file.set_modified(modified).unwrap();
    }
    evaluate_all();
    // Only the classifier is left.
    let images = written.iter().max_by_key(|(_, bytes)| bytes.len());
    let images = &images.unwrap().0;
    fs::rename(places[0].join(images), others.path().join("moved")).unwrap();
    let (errors, gathered) = Threads::run(3, None, |division| {
        let cache = FeatureCache::new(&places[division.rank()], &encoder);
        let options = EvalOptions {
            cache: Some(&cache),
            ..options(division)
        };
        words(zero_shot(&encoder, &dataset, options, |_| ()))
    });
    assert!(errors.iter().all(|error| error.starts_with("rank 0: ")));
    assert_eq!(gathered, [2; 3]);
}

#[test]
fn an_exchange_that_fails_ends_the_evaluation_on_every_rank() {
    let encoder = encoder();
    let folder = caption_folder(70);
    let dataset = open(&folder.path().join("set.toml"));
    for at in [0, 1] {
        let (errors, gathered) = Threads::run(2, Some(at), |division| {
            let found = retrieval(&encoder, &dataset, options(division), |_| ());
            let error = found.unwrap_err();
            assert!(matches!(
                error,
                EvalError::Division(DivisionError::Exchange(_))
            ));
            with_causes(&error)
        });
        assert!(
            errors
                .iter()
                .all(|error| error.ends_with("rank 1 has ended"))
        );
        assert_eq!(gathered, [at + 1; 2]);
    }
}
