//! Damaged images in evaluation sets and among the images of `embed` and `classify`.

use std::fs;
use std::path::Path;

use couplet_model::{open_clip, weights};

use crate::evaluation::{CONFIG, trained};
use crate::models::{couplet, scene};
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

/// The names in the metadata of a safetensors file.
fn names(workspace: &Workspace, file: &str) -> Vec<String> {
    let bytes = fs::read(workspace.path(file)).unwrap();
    let (len, rest) = bytes.split_at(8);
    let len = usize::try_from(u64::from_le_bytes(len.try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&rest[..len]).unwrap();
    let names = header["__metadata__"]["images"].as_str().unwrap();
    serde_json::from_str(names).unwrap()
}

#[test]
fn embed_and_classify_leave_out_bad_images() {
    let workspace = scene("ViT-Ti-8-32");
    write_set(&workspace);
    let put = |file: &str, bytes: &[u8]| {
        let path = workspace.path("set").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for hidden in ["dark/._0.png", ".thumbs/0.png", "@eaDir/0.png/1.jpg"] {
        put(hidden, b"hidden");
    }
    let sound: Vec<String> = [
        "dark/0", "dark/1", "dark/2", "light/0", "light/1", "light/2",
    ]
    .map(|stem| format!("set/{stem}.png"))
    .to_vec();
    let embed = |images: &str, out: &str| {
        couplet(
            &workspace,
            &format!("embed --model model --images {images} --out {out}"),
        )
    };
    succeed(embed("set", "sound.safetensors"));
    assert_eq!(names(&workspace, "sound.safetensors"), sound);
    let features = |file: &str| {
        let mut tensors = weights::read(&workspace.path(file)).unwrap().tensors;
        tensors.remove("image_features").unwrap()
    };
    let wanted = features("sound.safetensors");

    put("dark/0a.webp", &panics());
    put("light/9.jpg", b"no image");
    let printed = fail(embed("set nowhere.jpg", "most.safetensors"), 1);
    for part in [
        "left out: set/dark/0a.webp: corrupt image: ",
        "left out: set/light/9.jpg: corrupt image",
        "left out: nowhere.jpg: ",
        "error: 3 of 9 images are left out",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!(names(&workspace, "most.safetensors"), sound);
    assert_eq!(features("most.safetensors"), wanted);

    fail(embed("set", "most.npy"), 1);
    assert_eq!(workspace.json("most.names.json"), serde_json::json!(sound));
    let bytes = fs::read(workspace.path("most.npy")).unwrap();
    let data: Vec<u8> = wanted.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes.ends_with(&data) && (bytes.len() - data.len()).is_multiple_of(64));

    let mut classify = couplet(&workspace, "classify --model model set --labels");
    let printed = fail(classify.args(["dark,light"]), 1);
    assert_eq!(printed.matches(".png\n").count(), 6, "{printed}");
    assert!(
        printed.contains("error: 2 of 8 images are left out"),
        "{printed}"
    );

    let printed = fail(embed("set/light/9.jpg", "none.npy"), 1);
    assert!(
        printed.contains("none of the 1 images can be used"),
        "{printed}"
    );
    let printed = fail(embed("set", "nowhere/none.npy"), 1);
    assert!(printed.contains("there is no folder nowhere"), "{printed}");
    assert!(!workspace.path("none.npy").exists() && !workspace.path("none.names.json").exists());
    let left = fs::read_dir(workspace.path("")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert!(left.into_iter().all(|name| !name.contains("unfinished")));
}

#[test]
fn features_that_are_not_numbers_are_an_error_that_names_images_and_texts() {
    let workspace = scene("ViT-Ti-8-32");
    write_set(&workspace);
    let file = workspace.path("model").join(open_clip::WEIGHTS_FILE);
    let sound = weights::read(&file).unwrap().tensors;
    let spoil = |name: &str, value: f32| {
        let mut tensors = sound.clone();
        tensors.get_mut(name).unwrap().values.fill(value);
        weights::save(&file, &tensors).unwrap();
    };
    let fails = |arguments: &str| fail(couplet(&workspace, arguments), 1);
    let eval = |protocol: &str| {
        fails(&format!(
            "eval {protocol} --model model --dataset set --no-cache"
        ))
    };
    for value in [f32::NAN, f32::INFINITY] {
        spoil("visual.conv1.weight", value);
        let printed = eval("zero-shot");
        assert!(
            printed.contains("the weights are NaN or infinite, the first in tensor visual.conv1"),
            "{printed}"
        );
    }
    // Sound weights with which products overflow.
    for value in [f32::MAX, 1e38] {
        spoil("visual.conv1.weight", value);
        let images = "the features of 6 of 6 images are NaN";
        let printed = eval("zero-shot");
        assert!(printed.contains(images), "{printed}");
        assert!(
            printed.contains("set/dark/0.png") && printed.contains("fp32"),
            "{printed}"
        );
        let printed = fails("embed --model model --images set --out o.npy");
        assert!(printed.contains(images), "{printed}");
        let printed = fails("classify --model model --labels a,b set");
        assert!(printed.contains(images), "{printed}");
        spoil("text_projection", value);
        let printed = eval("zero-shot");
        assert!(
            printed.contains("texts are NaN") && printed.contains("a photo of a"),
            "{printed}"
        );
        let printed = fails("embed --model model --texts texts.txt --out o.npy");
        assert!(
            printed.contains("`a red circle`, `a blue star`") || printed.contains("a red circle")
        );
    }
    spoil("logit_scale", f32::NAN);
    let printed = fails("classify --model model --labels a,b set");
    assert!(printed.contains("logit_scale"), "{printed}");
    assert!(!workspace.path("o.npy").exists());
}

#[cfg(unix)]
#[test]
fn names_that_a_terminal_would_obey_are_escaped() {
    let workspace = scene("ViT-Ti-8-32");
    write_set(&workspace);
    let name = workspace.path("set").join("dark/\u{1b}[31m.jpg");
    fs::write(name, b"no image").unwrap();
    for arguments in [
        "embed --model model --images set --out o.npy",
        "classify --model model --labels a,b set",
        "eval zero-shot --model model --dataset set",
    ] {
        let printed = fail(couplet(&workspace, arguments), 1);
        assert!(printed.contains("\\u{1b}[31m.jpg"), "{printed}");
        assert!(!printed.contains('\u{1b}'), "{printed}");
    }
}
