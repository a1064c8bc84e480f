use super::*;
use couplet_model::{open_clip, presets};

#[test]
fn a_runs_folder_opens_at_its_best_checkpoint() {
    let run = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    for (name, seed) in [("step-1", 1), ("step-2", 2)] {
        let folder = run.path().join("checkpoints").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let model = Clip::init(&spec, seed, &device);
        open_clip::save(
            &folder,
            &model,
            &spec,
            &PreprocessSpec::default(),
            &open_clip::TokenizerCfg::default(),
        )
        .unwrap();
    }
    std::fs::write(run.path().join("latest"), "step-2\n").unwrap();
    std::fs::write(run.path().join("best"), "step-1\n").unwrap();
    let features = |path: &Path| {
        let encoder = Encoder::open(path, &device).unwrap();
        let features = encoder.encode_texts(&["a word"]).unwrap();
        features.into_data().try_to_vec::<f32>().unwrap()
    };
    let best = features(run.path());
    assert_eq!(best, features(&run.path().join("checkpoints/step-1")));
    assert_ne!(best, features(&run.path().join("checkpoints/step-2")));
    let norm: f32 = best.iter().map(|v| v * v).sum();
    assert!((norm - 1.0).abs() < 1e-5);
}

#[test]
fn the_error_for_a_folder_without_a_model_names_the_expected_files() {
    let folder = tempfile::tempdir().unwrap();
    let error = Encoder::open(folder.path(), &Device::flex())
        .unwrap_err()
        .to_string();
    assert!(error.contains("open_clip_config.json"), "{error}");
}

/// `judged_weights` is the name since the first version: earlier checkpoints must open as they did.
#[test]
fn a_checkpoint_opens_with_the_weights_that_its_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoints/step-00000003");
    std::fs::create_dir_all(&checkpoint).unwrap();
    std::fs::write(folder.path().join("latest"), "step-00000003").unwrap();
    let found = || super::find_model(folder.path()).unwrap();
    assert_eq!(found(), checkpoint);
    std::fs::write(checkpoint.join("judged_weights"), super::EMA_WEIGHTS_FILE).unwrap();
    assert_eq!(found(), checkpoint.join(super::EMA_WEIGHTS_FILE));
}

#[test]
fn texts_that_the_tokenizer_cannot_encode_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    // Words without an id for unknown ones.
    let file = r#"{"version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 1, "dog": 2, "cat": 3}, "unk_token": "[UNK]"}}"#;
    std::fs::write(&path, file).unwrap();
    let tokenizer = Tokenizer::from_file(&path, couplet_data::Clean::None).unwrap();
    let device = Device::flex();
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    let model = Clip::init(&spec, 0, &device);
    let encoder = Encoder::new(
        model,
        &spec,
        &PreprocessSpec::default(),
        Arc::new(tokenizer),
    )
    .unwrap();
    let (features, is_usable) = encoder
        .encode_usable_texts_raw(&["a dog", "a horse", "cat"])
        .unwrap();
    assert_eq!(is_usable, [true, false, true]);
    let values = |features: Tensor<2>| features.into_data().try_to_vec::<f32>().unwrap();
    let wanted = encoder.encode_texts_raw(&["a dog", "cat"]).unwrap();
    assert_eq!(values(features.unwrap()), values(wanted));
    let (features, is_usable) = encoder.encode_usable_texts_raw(&["a horse"]).unwrap();
    assert!(features.is_none() && is_usable == [false]);
}

#[test]
fn features_in_bf16_are_f32_and_close_to_those_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let spec = presets::find("ViT-Ti-8-32").unwrap();
    let preprocess = PreprocessSpec::default();
    let tokenizer = open_clip::TokenizerCfg::default();
    let model = Clip::init(&spec, 1, &device);
    open_clip::save(folder.path(), &model, &spec, &preprocess, &tokenizer).unwrap();
    let features = |precision| {
        let options = OpenOptions {
            precision,
            ..OpenOptions::default()
        };
        let encoder = Encoder::open_with(folder.path(), &options, &device).unwrap();
        let pixels = (0..=250).cycle().take(32 * 32 * 3).collect();
        let texts = encoder.encode_texts(&["a word"]).unwrap();
        [texts, encoder.encode_pixels(pixels)]
            .map(|features| features.into_data().try_to_vec::<f32>().unwrap())
    };
    let (wide, narrow) = (features(Precision::F32), features(Precision::Bf16));
    for (wide, narrow) in wide.iter().zip(&narrow) {
        let cosine: f32 = wide.iter().zip(narrow).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999 && wide != narrow, "{cosine}");
    }
}
