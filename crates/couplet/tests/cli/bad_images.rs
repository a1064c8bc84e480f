//! Damaged images in evaluation sets and among the images of `embed` and `classify`.

use std::fs;
use std::path::Path;

use crate::evaluation::{CONFIG, trained};
use crate::workspace::{Workspace, fail, succeed, text};

/// A file on which the decoder of WebP panics.
fn panics() -> Vec<u8> {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../couplet-data/tests/fixtures"
    );
    fs::read(Path::new(fixtures).join("panics.webp")).unwrap()
}

/// Images of two classes in the folder `set`.
fn write_set(workspace: &Workspace) {
    for (class, level) in [("dark", 20), ("light", 220)] {
        let folder = workspace.path("set").join(class);
        fs::create_dir_all(&folder).unwrap();
        for at in 0..3 {
            let pixel = [level + at, level, level - at].into();
            let image = image::RgbImage::from_pixel(20, 16, pixel);
            image.save(folder.join(format!("{at}.png"))).unwrap();
        }
    }
}

#[test]
fn a_damaged_image_in_an_evaluation_set_does_not_end_training() {
    let workspace = Workspace::with(&[]);
    write_set(&workspace);
    fs::write(workspace.path("set/dark/bad.webp"), panics()).unwrap();
    let eval = "[[eval]]\nkind = \"zero-shot\"\ndataset = \"set\"\n";
    fs::write(workspace.path("config.toml"), CONFIG.to_string() + eval).unwrap();
    let train = ["train", "config.toml", "--run-dir", "run"];
    let printed = succeed(workspace.couplet(&train));
    let problem = "could not evaluate set: set: 1 of 7 images cannot be used";
    assert_eq!(
        printed.matches(problem).count(),
        2,
        "one an epoch: {printed}"
    );
    assert!(printed.contains("set/dark/bad.webp"), "{printed}");
    let metrics = workspace.metrics("run");
    assert!(
        metrics
            .iter()
            .any(|line| line.get("eval/val/loss").is_some())
    );
    assert!(
        metrics
            .iter()
            .all(|line| line.get("eval/set/top1").is_none())
    );

    fs::remove_file(workspace.path("set/dark/bad.webp")).unwrap();
    let evaluate = ["eval", "zero-shot", "--model", "run", "--dataset", "set"];
    succeed(workspace.couplet(&evaluate));
}

#[test]
fn an_evaluation_names_the_images_that_it_cannot_use() {
    let workspace = trained();
    write_set(&workspace);
    fs::write(workspace.path("set/dark/a.webp"), panics()).unwrap();
    fs::write(workspace.path("set/light/b.jpg"), b"no image").unwrap();
    for protocol in ["zero-shot", "linear-probe", "knn"] {
        let of_run = ["--model", "run", "--dataset"];
        let mut command = workspace.couplet(&["eval", protocol]);
        command.args(of_run);
        if protocol == "zero-shot" {
            command.arg("set");
        } else {
            let table = "name = 'set'\nsource = 'class-folder'\npath = 'set'\ntrain_path = 'set'\n";
            fs::write(workspace.path("set.toml"), table).unwrap();
            command.arg("set.toml");
        }
        let printed = fail(command, 1);
        for part in [
            "error: set: 2 of 8 images cannot be used; replace them or remove them",
            "set/dark/a.webp",
            "set/light/b.jpg",
        ] {
            assert!(printed.contains(part), "{protocol}: {printed}");
        }
    }
    let suite = workspace
        .couplet(&["eval", "suite", "run", "set", "tiny.toml"])
        .output();
    let suite = suite.unwrap();
    assert_eq!(suite.status.code(), Some(1));
    let printed = text(&suite);
    assert!(
        printed.contains("set/dark/a.webp") && printed.contains("tiny"),
        "{printed}"
    );
}
