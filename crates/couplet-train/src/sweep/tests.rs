use super::SweepConfig;

fn config(more: &str) -> SweepConfig {
    let text = format!("name = \"s\"\nconfig = \"c.toml\"\nmetric = \"loss\"\n{more}");
    toml::from_str(&text).unwrap()
}

#[test]
fn a_grid_has_every_combination() {
    let grid = config("[keys]\n\"optimizer.lr\" = [1e-3, 1e-4]\nseed = [0, 1, 2]");
    let trials = grid.trials().unwrap();
    assert_eq!(trials.len(), 6);
    let larger = config("[keys]\nseed = [0, 1]\n").trials().unwrap();
    let small = config("[keys]\nseed = [1]\n").trials().unwrap();
    assert_eq!(larger[1], small[0]);
    assert_eq!(trials[1].set, ["optimizer.lr=0.001", "seed=1"]);
    assert_eq!(trials[5].set, ["optimizer.lr=0.0001", "seed=2"]);
}

#[test]
fn draws_are_in_their_range_and_reproducible() {
    let config = config(
        "search = { kind = \"random\", trials = 40, seed = 3 }\n[keys]\n\
         \"optimizer.lr\" = { min = 1e-4, max = 1e-2, scale = \"log\" }\n\
         \"loss.kind\" = [\"softmax\", \"sigmoid\"]",
    );
    let trials = config.trials().unwrap();
    assert_eq!(trials, config.trials().unwrap());
    let rates: Vec<f64> = (trials.iter())
        .map(|trial| {
            trial.set[0]
                .strip_prefix("optimizer.lr=")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(rates.iter().all(|rate| (1e-4..1e-2).contains(rate)));
    // Half of a logarithmic range is below its geometric mean.
    let low = rates.iter().filter(|rate| **rate < 1e-3).count();
    assert!((10..30).contains(&low), "{low}");
    let kinds: std::collections::HashSet<_> = trials.iter().map(|t| &t.set[1]).collect();
    assert_eq!(kinds.len(), 2);
}

#[test]
fn all_problems_of_a_name_and_its_keys_are_found_at_once() {
    let mut config = config("[keys]\na = { min = 1, max = 2 }\nb = []\nc = [1]");
    config.name = "x/y".into();
    let problems = config.problems();
    let messages: Vec<&str> = problems.iter().map(|own| own.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "name: must be a plain name without `/` or `\\`; it names the sweep's folder",
            "keys.\"a\": a grid needs a list of values",
            "keys.\"b\": must not be an empty list",
        ]
    );
}

#[test]
fn keys_that_cannot_be_searched_are_rejected() {
    for (more, message) in [
        ("[keys]", "at least one key"),
        ("[keys]\nseed = { min = 1, max = 2 }", "a grid needs a list"),
        ("[keys]\nseed = []", "be an empty list"),
        (
            "search = { kind = \"random\", trials = 2 }\n[keys]\nlr = { min = 0.0, max = 1.0, scale = \"log\" }",
            "needs a positive `min`",
        ),
    ] {
        let error = config(more).trials().unwrap_err();
        assert!(error.message.contains(message), "{error:?}");
    }
}
