use super::*;
use crate::resample::Interpolation;
use crate::transform::{ResizeMode, Transform};
use image::RgbImage;
use std::fs;

fn class_folder(path: &Path) -> Result<LabelledDataset, DataError> {
    let table = LabelledConfig::ClassFolder(LabelledClassFolderConfig::new(path));
    table.open(Split::Test, 2)
}

#[test]
fn subfolders_are_classes_sorted_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (class, file) in [
        ("b", "1.png"),
        ("a", "2.png"),
        ("a", "1.png"),
        ("a", "x.txt"),
    ] {
        fs::create_dir_all(folder.path().join(class)).unwrap();
        let path = folder.path().join(class).join(file);
        RgbImage::from_pixel(4, 4, [50, 60, 70].into())
            .save_with_format(path, image::ImageFormat::Png)
            .unwrap();
    }
    fs::write(folder.path().join("a/3.png"), b"broken").unwrap();
    let dataset = class_folder(folder.path()).unwrap();
    assert_eq!(dataset.class_names().unwrap(), ["a", "b"]);
    assert_eq!(*dataset.targets(), Targets::Classes(vec![0, 0, 0, 1]));
    let batch = dataset.batch(
        0..dataset.len(),
        &Transform::eval(2, ResizeMode::Shortest, Interpolation::Bicubic),
        1000,
    );
    assert_eq!(batch.indices, [0, 1, 3]);
    assert_eq!(batch.skipped.len(), 1);
    assert_eq!(batch.pixels.len(), 3 * 12);
    assert!(batch.pixels.chunks(3).all(|pixel| pixel == [50, 60, 70]));
}

#[test]
fn an_empty_folder_says_what_it_should_hold() {
    let folder = tempfile::tempdir().unwrap();
    let error = class_folder(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("no images (jpg, jpeg, png, webp, gif, bmp, tif, tiff)"),
        "{error}"
    );
}
