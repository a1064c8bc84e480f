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
        open_clip::save(&folder, &model, &spec, &PreprocessSpec::default(), None).unwrap();
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
