//! `couplet eval few-shot`, `couplet eval compositional`, and lists of names and templates from files.

use std::fs;

use serde_json::{Value, json};

use crate::evaluation::trained;
use crate::workspace::{Workspace, fail, succeed};

/// Images of two colors in folders by class, named by their number.
fn draw_classes(place: &Workspace, split: &str, classes: &[(&str, [u8; 3], u8)]) {
    fs::create_dir_all(place.path(split)).unwrap();
    for (class, color, images) in classes {
        let folder = place.path(split).join(class);
        fs::create_dir_all(&folder).unwrap();
        for image in 0..*images {
            let color = color.map(|value| value.saturating_add(image));
            let image = image::RgbImage::from_pixel(16, 16, color.into());
            image
                .save(folder.join(format!("{}.png", color[0])))
                .unwrap();
        }
    }
}

fn eval(place: &Workspace, protocol: &str, more: &[&str]) -> (Value, String) {
    let command = ["eval", protocol, "--model", "run", "--json", "found.json"];
    let printed = succeed(place.couplet(&[&command[..], more].concat()));
    (place.json("found.json"), printed)
}

#[test]
fn few_shot_reports_every_number_of_images_over_all_seeds() {
    let place = trained();
    let classes = [
        ("dark", [10, 10, 10], 6),
        ("light", [230, 230, 230], 6),
        ("red", [200, 0, 0], 2),
    ];
    draw_classes(&place, "colors/train", &classes);
    draw_classes(&place, "colors/test", &classes);
    for classifier in ["ridge", "logistic"] {
        let more = [
            "--dataset",
            "colors",
            "-k",
            "1,2,5",
            "--seeds",
            "4",
            "--classifier",
            classifier,
        ];
        let (found, printed) = eval(&place, "few-shot", &more);
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), 3);
        for (report, (shots, images)) in found.iter().zip([(1.0, 3), (2.0, 6), (5.0, 12)]) {
            assert_eq!(report["protocol"], "few-shot");
            assert_eq!(report["classifier"], classifier);
            assert_eq!(report["shots"], shots);
            let seeds = report["seeds"].as_array().unwrap();
            let of = |name: &str| -> Vec<f64> {
                seeds
                    .iter()
                    .map(|seed| seed[name].as_f64().unwrap())
                    .collect()
            };
            assert_eq!(of("seed"), [0.0, 1.0, 2.0, 3.0]);
            assert_eq!(of("train_images"), [f64::from(images); 4]);
            for name in ["top1", "mean_per_class"] {
                let values = of(name);
                let mean = values.iter().sum::<f64>() / 4.0;
                let squares = values.iter().map(|value| (value - mean).powi(2));
                let deviation = (squares.sum::<f64>() / 4.0).sqrt();
                let close = |name: &str, wanted: f64| {
                    (report[name].as_f64().unwrap() - wanted).abs() < 1e-9
                };
                assert!(
                    close(name, mean) && close(&format!("{name}_std"), deviation),
                    "{report}"
                );
            }
        }
        assert!(printed.contains("red (2)"), "{printed}");
        assert!(
            printed.contains("colors: -k 5: 1 of 3 classes have fewer training images"),
            "{printed}"
        );
        // Dark and light are far apart for any tower.
        assert!(found[2]["top1"].as_f64().unwrap() > 0.5, "{}", found[2]);
    }
    let (again, _) = eval(&place, "few-shot", &["--dataset", "colors", "-k", "2"]);
    let (cached, _) = eval(
        &place,
        "few-shot",
        &["--dataset", "colors", "-k", "2", "--no-cache"],
    );
    assert_eq!(again, cached);
    let wrong = [
        "eval",
        "few-shot",
        "--model",
        "run",
        "--dataset",
        "colors",
        "-k",
        "0",
    ];
    fail(place.couplet(&wrong), 2);
    let wrong = [
        "eval",
        "few-shot",
        "--model",
        "run",
        "--dataset",
        "colors",
        "-C",
        "1",
    ];
    let printed = fail(place.couplet(&wrong), 1);
    assert!(printed.contains("ridge takes --l2"), "{printed}");
}

#[test]
fn sugar_crepes_and_winogrounds_files_are_scored_as_they_are() {
    let place = trained();
    draw_classes(&place, "images", &[(".", [10, 10, 10], 2)]);
    let pair = |image: &str, caption: &str, negative: &str| json!({ "filename": image, "caption": caption, "negative_caption": negative });
    fs::create_dir(place.path("data")).unwrap();
    for (name, rows) in [
        // One of the two orders is right.
        (
            "add_obj",
            json!({ "0": pair("10.png", "a red circle", "a blue star"), "1": pair("10.png", "a blue star", "a red circle") }),
        ),
        // Equal captions are wrong, also if only their case differs.
        (
            "swap_att",
            json!({ "0": pair("11.png", "a red circle", "a red circle"), "1": pair("11.png", "A red circle", "a red circle") }),
        ),
    ] {
        fs::write(place.path(&format!("data/{name}.json")), rows.to_string()).unwrap();
    }
    let more = ["--data", "data", "--root", "images"];
    let (found, printed) = eval(&place, "compositional", &more);
    let found = &found[0];
    assert_eq!(found["protocol"], "compositional");
    assert_eq!(found["kind"], "sugarcrepe");
    assert_eq!(found["examples"], 4.0);
    assert_eq!(found["accuracy"], 0.25);
    assert_eq!(found["macro_accuracy"], 0.25);
    assert_eq!(found["categories"]["add_obj"]["accuracy"], 0.5);
    assert_eq!(found["categories"]["swap_att"]["accuracy"], 0.0);
    assert!(
        printed.contains("swap_att") && printed.contains("macro accuracy"),
        "{printed}"
    );

    let row = |first: &str, second: &str, captions: [&str; 2]| json!({ "image_0": first, "image_1": second, "caption_0": captions[0], "caption_1": captions[1] });
    let rows = [
        row("10", "11", ["a red circle", "a blue star"]),
        row("11", "10", ["a red circle", "a blue star"]),
        // The same image twice: no caption can prefer its own.
        row("10", "10", ["a red circle", "a blue star"]),
        row("10", "11", ["a star", "a star"]),
    ];
    let lines = rows.map(|row| row.to_string()).join("\n");
    fs::write(place.path("examples.jsonl"), lines).unwrap();
    let more = ["--data", "examples.jsonl", "--root", "images"];
    let (found, _) = eval(&place, "compositional", &more);
    let found = &found[0];
    assert_eq!(
        (&found["kind"], &found["dataset"]),
        (&json!("winoground"), &json!("examples"))
    );
    let score = |name: &str| found[name].as_f64().unwrap();
    // Of the first two rows, at most one is right each time.
    assert!(
        score("text_score") <= 0.25 && score("image_score") <= 0.25,
        "{found}"
    );
    assert!(score("group_score") <= score("text_score").min(score("image_score")));
    let wrong = [
        &["eval", "compositional", "--model", "run"][..],
        &more,
        &["--kind", "sugarcrepe"],
    ];
    let printed = fail(place.couplet(&wrong.concat()), 1);
    assert!(printed.contains("give --image-columns"), "{printed}");
}

#[test]
fn names_and_templates_of_other_languages_take_the_place_of_the_datasets() {
    let place = trained();
    let classes = [("cat", [10, 10, 10], 2), ("dog", [230, 230, 230], 2)];
    draw_classes(&place, "pets", &classes);
    let names = json!({ "it": { "pets": ["gatto", "cane"], "few": ["gatto"] } });
    fs::write(place.path("names.json"), names.to_string()).unwrap();
    fs::write(place.path("names.txt"), "gatto\ncane\n").unwrap();
    fs::write(place.path("templates.json"), "[\"una foto di un {c}\"]").unwrap();
    fs::write(place.path("templates.txt"), "una foto di un {}\n").unwrap();
    let zero_shot = |more: &[&str]| {
        let (found, _) = eval(
            &place,
            "zero-shot",
            &[&["--dataset", "pets", "--details", "out"][..], more].concat(),
        );
        (found, place.read("out/pets-classes.csv"))
    };
    let json = [
        "--classnames",
        "names.json#it.pets",
        "--templates",
        "templates.json",
    ];
    let text = ["--classnames", "names.txt", "--templates", "templates.txt"];
    let (found, table) = zero_shot(&json);
    assert!(table.contains("gatto") && !table.contains("cat"), "{table}");
    assert_eq!(zero_shot(&text), (found.clone(), table));
    // A dataset's file names the same lists.
    let file = "name = 'pets'\nsource = 'class-folder'\npath = 'pets'\nclass_names = 'names.json#it.pets'\n\
                templates = 'templates.json'\n";
    fs::write(place.path("it.toml"), file).unwrap();
    let (by_name, _) = eval(&place, "zero-shot", &["--dataset", "it.toml"]);
    assert_eq!(by_name[0]["top1"], found[0]["top1"]);
    let fails = |names: &str| {
        let command = [
            "eval",
            "zero-shot",
            "--model",
            "run",
            "--dataset",
            "pets",
            "--classnames",
            names,
        ];
        fail(place.couplet(&command), 1)
    };
    let printed = fails("names.json#it.few");
    assert!(printed.contains("1 class names for 2 classes"), "{printed}");
    let printed = fails("names.json#fr");
    assert!(
        printed.contains("no `fr` in it, which holds `it`"),
        "{printed}"
    );
    let printed = fails("names.json");
    assert!(printed.contains("write FILE#KEY"), "{printed}");
}

#[test]
fn the_tasks_of_datacomp_are_listed_and_those_without_a_metric_say_why() {
    let place = Workspace::with(&[]);
    let command = ["eval", "datasets", "--datacomp", "--json", "tasks.json"];
    let printed = succeed(place.couplet(&command));
    let tasks = place.json("tasks.json");
    assert_eq!(tasks.as_array().unwrap().len(), 38);
    assert_eq!(tasks[0]["dataset"], "datacomp-caltech101");
    assert_eq!(tasks[0]["metric"], "mean_per_class");
    assert_eq!(tasks[0]["is_there"], false);
    assert!(printed.contains("FMoW: cannot be scored: "), "{printed}");
    // A folder as DataComp's script makes it is the dataset.
    let folder = place.path("data/wds_mnist_test");
    fs::create_dir_all(folder.join("test")).unwrap();
    succeed(place.couplet(&command));
    let tasks = place.json("tasks.json");
    let mnist = tasks
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["task"] == "mnist");
    assert_eq!(mnist.unwrap()["is_there"], true);
}
