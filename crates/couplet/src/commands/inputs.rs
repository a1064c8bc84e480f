//! Texts and images that the arguments name.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

/// The lines of a file, or of standard input for `-`.
pub(crate) fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + String::from_utf8_lossy(sound).matches('\n').count();
        anyhow!("{}: line {line} is not UTF-8", path.display())
    })?;
    Ok(text.lines().map(str::to_string).collect())
}

/// Files as they are, folders as the images in them, sorted by name.
pub(crate) fn image_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = std::fs::read_dir(path)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        inside.retain(|file| couplet_data::is_image_name(file));
        if inside.is_empty() {
            return Err(anyhow!(
                "{}: contains no images; their names end in {}",
                path.display(),
                couplet_data::IMAGE_EXTENSIONS.join(", ")
            ));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}
