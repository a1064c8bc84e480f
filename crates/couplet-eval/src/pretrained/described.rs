//! Downloaded files as their name says: where they say something else, or nothing, of the architecture, a folder next to the
//! cache holds links to them and a config of open_clip's table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use couplet_hub::{Activation, Fetched, Preprocess};
use couplet_model::{
    FolderError, Interpolation, Layout, ModelSpec, PreprocessSpec, ResizeMode, TOKENIZER_FILE,
    describe, open_clip, presets,
};

use super::error::PretrainedError;

/// The path that opens the model as its name says: the files themselves where they say the same, else a folder that
/// does.
/// - folder: to be made if it is needed.
pub(super) fn opened_as(fetched: &Fetched, folder: &Path) -> Result<PathBuf, PretrainedError> {
    let path = &fetched.path;
    let Some(mut spec) = fetched.architecture.and_then(presets::find) else {
        return Ok(path.clone());
    };
    if fetched.activation == Some(Activation::QuickGelu) {
        spec.activation = couplet_model::Activation::QuickGelu;
    }
    let preprocess = preprocess(fetched.preprocess.as_ref());
    let is_stated = describe(path).is_ok_and(|stated| {
        stated.spec.image.image_size() == spec.image.image_size()
            && stated.spec.image_activation() == spec.image_activation()
            && stated.spec.text_activation() == spec.text_activation()
            && stated.preprocess == preprocess
            && (path.is_dir() || stated.layout == Layout::OpenAi)
    });
    if is_stated {
        return Ok(path.clone());
    }
    let described = Described::of(path, &spec, &preprocess)?;
    if !described.is_at(folder) {
        let failed = |source| PretrainedError::Write {
            path: folder.to_path_buf(),
            source,
        };
        described.write(folder).map_err(failed)?;
    }
    Ok(folder.to_path_buf())
}

/// What is in such a folder.
struct Described {
    config: String,
    /// The files by their names in it, without links.
    files: BTreeMap<OsString, PathBuf>,
}

impl Described {
    /// - path: a folder, whose own files are taken, or a file of weights.
    fn of(path: &Path, spec: &ModelSpec, preprocess: &PreprocessSpec) -> Result<Self, FolderError> {
        let read = |source| FolderError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut tokenizer = open_clip::TokenizerCfg::default();
        let mut files = BTreeMap::new();
        if path.is_dir() {
            let config = path.join(open_clip::CONFIG_FILE);
            if config.is_file() {
                tokenizer = open_clip::read_config(&config)?.tokenizer;
            }
            for entry in fs::read_dir(path).map_err(read)? {
                let file = entry.map_err(read)?.path();
                // A repository may have folders besides, such as `onnx`.
                if file != config
                    && file.is_file()
                    && let Some(name) = file.file_name()
                {
                    files.insert(name.to_owned(), fs::canonicalize(&file).map_err(read)?);
                }
            }
            if tokenizer.hugging_face.is_none()
                && files.contains_key(TOKENIZER_FILE.as_ref() as &std::ffi::OsStr)
            {
                tokenizer.hugging_face = Some(TOKENIZER_FILE.into());
            }
        } else {
            let file = fs::canonicalize(path).map_err(read)?;
            files.insert("open_clip_pytorch_model.bin".into(), file);
        }
        Ok(Self {
            config: open_clip::config_text(spec, preprocess, &tokenizer),
            files,
        })
    }

    /// Whether the folder has the config, and of each file all bytes, and nothing else.
    fn is_at(&self, folder: &Path) -> bool {
        let len = |path: &Path| fs::metadata(path).ok().map(|found| found.len());
        let config = fs::read(folder.join(open_clip::CONFIG_FILE));
        config.is_ok_and(|config| config == self.config.as_bytes())
            && fs::read_dir(folder).is_ok_and(|entries| entries.count() == self.files.len() + 1)
            && self.files.iter().all(|(name, file)| {
                let found = len(&folder.join(name));
                found.is_some() && found == len(file)
            })
    }

    /// Writes the folder under another name and then moves it, so that another process that opens the same model finds it
    /// whole or not at all.
    fn write(&self, folder: &Path) -> io::Result<()> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let unfinished = folder.with_file_name(format!(".{name}.{process}-{count}.unfinished"));
        let written = self
            .fill(&unfinished)
            .and_then(|()| self.move_to(&unfinished, folder));
        if written.is_err() {
            // The error of interest is the one above.
            let _ = fs::remove_dir_all(&unfinished);
        }
        written
    }

    fn fill(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, file) in &self.files {
            link(file, &folder.join(name))?;
        }
        fs::write(folder.join(open_clip::CONFIG_FILE), &self.config)
    }

    fn move_to(&self, unfinished: &Path, folder: &Path) -> io::Result<()> {
        // One that is whole is another process's; else it describes an earlier download.
        for _ in 0..3 {
            if self.is_at(folder) {
                return fs::remove_dir_all(unfinished);
            }
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if fs::rename(unfinished, folder).is_ok() {
                return Ok(());
            }
        }
        fs::rename(unfinished, folder)
    }
}

/// Makes `to`, which is not there, stand for `from`.
#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Makes `to`, which is not there, the same file as `from`, or a copy where the file system has no links.
#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

fn preprocess(of_name: Option<&Preprocess>) -> PreprocessSpec {
    let default = PreprocessSpec::default();
    let Some(given) = of_name else {
        return default;
    };
    #[expect(clippy::cast_possible_truncation, reason = "as PyTorch's tensors")]
    let channels = |values: [f64; 3]| values.map(|value| value as f32);
    PreprocessSpec {
        mean: channels(given.mean),
        std: channels(given.std),
        interpolation: match given.interpolation {
            "bilinear" => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        resize_mode: match given.resize_mode {
            "squash" => ResizeMode::Squash,
            "longest" => ResizeMode::Longest,
            _ => ResizeMode::Shortest,
        },
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(path: &Path) -> Fetched {
        Fetched {
            path: path.to_path_buf(),
            architecture: Some("ViT-Ti-8-32"),
            activation: Some(Activation::Gelu),
            preprocess: None,
            licence: None,
            commit: None,
            source: String::new(),
            notes: Vec::new(),
        }
    }

    fn open(folder: &Path, file: &Path) -> open_clip::Config {
        let path = opened_as(&fetched(file), folder).unwrap();
        assert_eq!(path, folder);
        open_clip::read_config(&path.join(open_clip::CONFIG_FILE)).unwrap()
    }

    #[test]
    fn many_at_once_find_the_same_folder_and_leave_the_weights_as_they_are() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("weights.pt");
        let bytes = vec![7; 1 << 16];
        fs::write(&file, &bytes).unwrap();
        let folder = cache.path().join("models/a@b");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| open(&folder, &file));
            }
        });
        let linked = folder.join("open_clip_pytorch_model.bin");
        assert_eq!(fs::read(&linked).unwrap(), bytes);
        assert_eq!(fs::read(&file).unwrap(), bytes);
        let models = fs::read_dir(cache.path().join("models")).unwrap();
        assert_eq!(models.count(), 1, "nothing unfinished stays");
    }

    #[test]
    fn what_is_incomplete_or_of_an_earlier_download_is_made_anew() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("snapshot");
        fs::create_dir_all(snapshot.join("onnx")).unwrap();
        for (name, text) in [("model.safetensors", "weights"), (TOKENIZER_FILE, "{}")] {
            fs::write(snapshot.join(name), text).unwrap();
        }
        let folder = cache.path().join("models/a@b");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.safetensors"), "wei").unwrap();
        fs::write(folder.join("open_clip_model.safetensors"), "others").unwrap();
        let config = open(&folder, &snapshot);
        assert_eq!(
            config.tokenizer.hugging_face.as_deref(),
            Some(TOKENIZER_FILE)
        );
        let weights = fs::read(folder.join("model.safetensors")).unwrap();
        assert_eq!(weights, b"weights");
        assert!(!folder.join("open_clip_model.safetensors").exists());
        // A config that cannot be read is said, not replaced.
        fs::write(snapshot.join(open_clip::CONFIG_FILE), "{").unwrap();
        let error = opened_as(&fetched(&snapshot), &folder).unwrap_err();
        assert!(
            error.to_string().contains(open_clip::CONFIG_FILE),
            "{error}"
        );
    }
}
