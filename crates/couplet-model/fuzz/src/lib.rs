//! Shared by the fuzz targets: a folder with sound files of a small model, one of which a target
//! replaces by its input.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor};
use couplet_model::{Clip, PreprocessSpec, hugging_face, inspect, load, open_clip};

/// The config of the model in `tests/fixtures/torch_files`.
pub const CONFIG: &str = include_str!("../small.json");

/// A folder with the config and the weights in open_clip's layout.
pub fn open_clip_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        write(|folder, model, spec, preprocess| {
            open_clip::save(
                folder,
                model,
                spec,
                preprocess,
                &open_clip::TokenizerCfg::default(),
            )
            .expect("a folder is written");
        })
    })
}

/// The same in Hugging Face's layout.
pub fn hugging_face_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        write(|folder, model, spec, preprocess| {
            hugging_face::save(
                folder,
                model,
                spec,
                preprocess,
                hugging_face::TokenIds::default(),
            )
            .expect("a folder is written");
        })
    })
}

fn write(save: impl Fn(&Path, &Clip, &couplet_model::ModelSpec, &PreprocessSpec)) -> PathBuf {
    let folder = tempfile::tempdir().expect("a folder is made").keep();
    let arch = folder.join("arch.json");
    fs::write(&arch, CONFIG).expect("the config is written");
    let config = open_clip::read_config(&arch).expect("the config is sound");
    let model = Clip::init(&config.spec, 0, &Device::flex());
    save(&folder, &model, &config.spec, &config.preprocess);
    folder
}

/// Opens a model, and runs what opens.
pub fn open(path: &Path, arch: Option<&str>) {
    let _ = inspect(path, arch);
    let device = Device::flex();
    let Ok(loaded) = load(path, arch, &device) else {
        return;
    };
    let spec = &loaded.source.spec;
    let size = spec.image.image_size();
    let images = Tensor::zeros([1, 3, size, size], &device);
    let tokens = Tensor::<2, Int>::zeros([1, spec.text.context_length], &device);
    let _ = (
        loaded.model.encode_image(images),
        loaded.model.encode_text(tokens),
    );
}
