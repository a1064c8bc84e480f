//! Mixes of models, and a guard of old abilities, from outside.

use std::fs;

use crate::adapting::{ADAPTED, couplet, tensors, workspace};
use crate::workspace::{fail, succeed};

#[test]
fn models_are_mixed_by_weights_and_along_a_line() {
    let workspace = workspace();
    succeed(couplet(&workspace, "train adapted.toml --run-dir new"));
    succeed(couplet(
        &workspace,
        "model mix base new --weights 0.25,0.75 --out mixed",
    ));
    let of = |run: &str, file: &str| tensors(&workspace.path(run).join(file));
    let base = of(
        "base/checkpoints/step-00000300",
        "open_clip_model.safetensors",
    );
    let new = of(
        "new/checkpoints/step-00000008",
        "open_clip_model_ema.safetensors",
    );
    let mixed = of("mixed", "open_clip_model.safetensors");
    let name = "visual.transformer.resblocks.0.mlp.c_fc.weight";
    for ((a, b), mix) in base[name]
        .values
        .iter()
        .zip(&new[name].values)
        .zip(&mixed[name].values)
    {
        let wanted = 0.25 * f64::from(*a) + 0.75 * f64::from(*b);
        assert!((f64::from(*mix) - wanted).abs() < 1e-7);
    }
    let along = "model mix base new --along 0,0.5,...,1 --dataset old.toml --out best --plot line.svg --json line.json";
    let printed = succeed(couplet(&workspace, along));
    assert!(
        printed.contains("old top1") && printed.contains(" best"),
        "{printed}"
    );
    let found = workspace.json("line.json");
    let weights: Vec<f64> = (found["along"].as_array().unwrap().iter())
        .map(|row| row["weight"].as_f64().unwrap())
        .collect();
    assert_eq!(weights, [0.0, 0.5, 1.0]);
    // The ends are the models themselves.
    for (run, at) in [("base", 0), ("new", 2)] {
        let eval = format!("eval zero-shot --model {run} --dataset old.toml --json {run}.json");
        succeed(couplet(&workspace, &eval));
        let value = workspace.json(&format!("{run}.json"))[0]["top1"].clone();
        assert_eq!(found["along"][at]["reports"][0]["top1"], value, "{run}");
    }
    let best = found["best"].as_f64().unwrap();
    let means: Vec<f64> = (found["along"].as_array().unwrap().iter())
        .map(|row| row["mean"].as_f64().unwrap())
        .collect();
    let largest = means.iter().copied().fold(0.0, f64::max);
    let at = weights.iter().position(|weight| *weight == best).unwrap();
    assert_eq!(means[at], largest);
    let eval = "eval zero-shot --model best --dataset old.toml --json best.json";
    succeed(couplet(&workspace, eval));
    assert_eq!(
        workspace.json("best.json")[0]["top1"].as_f64().unwrap(),
        largest
    );
    assert!(workspace.read("line.svg").contains("<polyline"));
    for (arguments, part) in [
        ("base new --weights 0.5,0.6 --out x", "their sum is 1.1"),
        ("base new --weights 1 --out x", "1 weights for 2 models"),
        ("base new base --along 0,1 --dataset old.toml", "give two"),
        (
            "base new --weights 0.5,0.5 --out mixed",
            "mixed: is there already",
        ),
    ] {
        let printed = fail(couplet(&workspace, &format!("model mix {arguments}")), 1);
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn a_soup_is_of_a_sweeps_trials() {
    let workspace = workspace();
    let config = ADAPTED.replace(
        "[log]",
        "[[eval]]\nkind = \"zero-shot\"\ndataset = \"old.toml\"\n[log]",
    );
    fs::write(workspace.path("adapted.toml"), config).unwrap();
    let sweep = "name = \"s\"\nconfig = \"adapted.toml\"\nmetric = \"eval/old/top1\"\n\
                 [keys]\n\"optimizer.lr\" = [1e-3, 1e-2, 3e-2]\n";
    fs::write(workspace.path("sweep.toml"), sweep).unwrap();
    succeed(couplet(&workspace, "sweep sweep.toml --run-dir sweep"));
    let soup = "model soup sweep --dataset old.toml --out soup --json soup.json";
    let printed = succeed(couplet(&workspace, soup));
    assert_eq!(printed.matches("alone").count(), 3, "{printed}");
    let found = workspace.json("soup.json");
    let ingredients = found["ingredients"].as_array().unwrap();
    assert!(!ingredients.is_empty(), "{found}");
    succeed(couplet(
        &workspace,
        "eval zero-shot --model soup --dataset old.toml --json own.json",
    ));
    assert_eq!(workspace.json("own.json")[0]["top1"], found["value"]);
    succeed(couplet(
        &workspace,
        "model soup sweep --uniform --out uniform",
    ));
    assert!(
        workspace
            .path("uniform/open_clip_model.safetensors")
            .is_file()
    );
}

#[test]
fn a_guard_ends_the_run_or_brings_its_weights_back() {
    let workspace = workspace();
    // A learning rate that makes it forget at once.
    let guarded = |on_drop: &str, run: &str| {
        let config = ADAPTED.replace("lr = 1e-2", "lr = 0.3").replace(
            "[log]",
            &format!(
                "[guard]\ndatasets = [\"old.toml\"]\nmax_drop = 0.02\non_drop = \"{on_drop}\"\nevery = \"2 steps\"\n[log]"
            ),
        );
        // The average falls, too.
        let config = match on_drop {
            "stop" => config.replace("[ema]\ndecay = 0.5\n", ""),
            _ => config,
        };
        fs::write(workspace.path(&format!("{run}.toml")), config).unwrap();
        succeed(couplet(
            &workspace,
            &format!("train {run}.toml --run-dir {run}"),
        ))
    };
    let value = |model: &str| {
        let eval = format!("eval zero-shot --model {model} --dataset old.toml --json value.json");
        succeed(couplet(&workspace, &eval));
        workspace.json("value.json")[0]["top1"].as_f64().unwrap()
    };
    let before = value("base");
    let printed = guarded("stop", "stopped");
    assert!(printed.contains("guard      old: "), "{printed}");
    assert!(printed.contains("the run ends"), "{printed}");
    let steps = workspace.losses("stopped").len();
    assert!((2..8).contains(&steps), "{steps} steps");
    let again = succeed(couplet(&workspace, "train stopped --resume"));
    assert!(again.contains("ended by [guard] after"), "{again}");
    assert_eq!(workspace.losses("stopped").len(), steps);
    // With a larger limit it goes on to its end.
    let further = "train stopped.toml --run-dir stopped --resume --set guard.max_drop=1";
    succeed(couplet(&workspace, further));
    assert_eq!(workspace.losses("stopped").len(), 8);

    let printed = guarded("mix", "mixed");
    assert!(printed.contains("of what it has changed"), "{printed}");
    assert_eq!(workspace.losses("mixed").len(), 8);
    assert!(value("mixed") >= before - 0.02 - 1e-9, "{before}");
    let killed = couplet(&workspace, "train mixed.toml --run-dir killed");
    workspace.kill_after(killed, "killed", 5);
    succeed(couplet(&workspace, "train killed --resume"));
    assert_eq!(workspace.losses("killed"), workspace.losses("mixed"));
    let weights = |run: &str| {
        let folder = workspace.path(run).join("checkpoints/step-00000008");
        ["open_clip_model", "open_clip_model_ema"]
            .map(|file| fs::read(folder.join(format!("{file}.safetensors"))).unwrap())
    };
    assert!(weights("killed") == weights("mixed"));
    succeed(couplet(&workspace, "verify mixed --replay 3"));
}
