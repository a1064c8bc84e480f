use super::{Interconnect, Link, RankWork, SumAlgorithm, bandwidth, expected_maximum};

const LOCAL: Link = Link {
    latency: 1e-6,
    bandwidth: 100e9,
};
const NETWORK: Link = Link {
    latency: 10e-6,
    bandwidth: 10e9,
};

fn links(ranks_per_node: usize, algorithm: SumAlgorithm) -> Interconnect {
    Interconnect {
        ranks_per_node,
        local: LOCAL,
        network: NETWORK,
        algorithm,
        overlap_cost: 0.0,
    }
}

fn work() -> RankWork {
    RankWork {
        batch: 64,
        embed_dim: 512,
        seconds: 0.5,
        hiding_seconds: 0.1,
        early_bytes: 400e6,
        late_bytes: 200e6,
        loss_flops_per_second: 1e12,
        exchanges_feature_gradients: false,
        spread: 0.0,
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1e-3)
}

/// The table of Harter 1961, "Expected values of normal order statistics".
#[test]
fn the_expected_maximum_of_normal_draws_is_that_of_the_tables() {
    for (draws, expected) in [
        (1, 0.0),
        (2, 0.564_19),
        (3, 0.846_28),
        (4, 1.029_38),
        (10, 1.538_75),
        (100, 2.507_59),
        (1000, 3.241_44),
    ] {
        let found = expected_maximum(draws);
        assert!((found - expected).abs() < 1e-4, "{draws}: {found}");
    }
}

#[test]
fn one_rank_exchanges_nothing() {
    for algorithm in [SumAlgorithm::Ring, SumAlgorithm::Pieces] {
        for per_node in [1, 8] {
            let one = work().predict(&links(per_node, algorithm), 1);
            assert_eq!(one.seconds.exchange() + one.seconds.waiting, 0.0);
            assert_eq!((one.weak_efficiency, one.strong_efficiency), (1.0, 1.0));
            assert_eq!(one.samples_per_second, 128.0);
        }
    }
}

#[test]
fn a_ring_sends_twice_the_gradients_over_the_slowest_link() {
    // 2 · 3/4 of 200 MB at 100 GB/s, and over the network of any node at 10 GB/s.
    let within = links(4, SumAlgorithm::Ring).sum_seconds(200e6, 4);
    assert!(near(within, 3e-3), "{within}");
    for per_node in [1, 2] {
        let between = links(per_node, SumAlgorithm::Ring).sum_seconds(200e6, 4);
        assert!(near(between, 3e-2), "{between}");
    }
}

#[test]
fn pieces_of_all_ranks_of_a_node_share_its_network() {
    let pieces = |per_node| links(per_node, SumAlgorithm::Pieces).sum_seconds(200e6, 8);
    // Alone on a node, a rank sends 2 · 7/8 of 200 MB; four together 4 · 2 · 4/8.
    assert!(near(pieces(1), 3.5e-2) && near(pieces(4), 8e-2));
    assert!(near(pieces(8), 3.5e-3));
    // Latency: three neighbours, four others.
    let latency = links(4, SumAlgorithm::Pieces).latency_seconds(8);
    assert!(near(latency, 43e-6));
    let tree = links(4, SumAlgorithm::Ring).latency_seconds(64);
    assert!(near(tree, 3e-6 + 4.0 * 10e-6), "{tree}");
}

#[test]
fn early_sums_hide_behind_the_backward_pass_and_cost_what_they_take_from_it() {
    let links = links(8, SumAlgorithm::Ring);
    // 2 · 7/8 of 800 MB take 14 ms.
    let sums = |change: &dyn Fn(&mut RankWork), cost| {
        let mut work = RankWork {
            early_bytes: 800e6,
            late_bytes: 0.0,
            ..work()
        };
        change(&mut work);
        let links = Interconnect {
            overlap_cost: cost,
            ..links
        };
        work.predict(&links, 8).seconds.sums
    };
    assert_eq!(sums(&|_| (), 0.0), 0.0);
    assert!(near(sums(&|_| (), 0.25), 0.25 * 14e-3));
    assert!(near(sums(&|_| (), 1.0), 14e-3));
    assert!(near(sums(&|work| work.hiding_seconds = 4e-3, 0.5), 12e-3));
    assert!(near(sums(&|work| work.hiding_seconds = 0.0, 0.5), 14e-3));
}

#[test]
fn parts_add_up_to_the_step_and_efficiencies_follow() {
    let work = RankWork {
        spread: 0.02,
        ..work()
    };
    let links = links(4, SumAlgorithm::Ring);
    let mut last = 1.0;
    for ranks in [2, 4, 8, 64, 1024] {
        let found = work.predict(&links, ranks);
        let total = found.seconds.total();
        assert_eq!(found.batch, 64 * ranks);
        assert!(near(found.weak_efficiency, 0.5 / total));
        assert!(near(found.strong_efficiency, found.seconds.compute / total));
        assert!(found.weak_efficiency < last, "{ranks}: {found:?}");
        assert!(found.strong_efficiency >= found.weak_efficiency);
        last = found.weak_efficiency;
    }
}

#[test]
fn a_divided_batch_takes_as_long_in_all_as_the_whole() {
    let whole = work();
    let quarter = whole.divided(4);
    assert_eq!(quarter.batch, 16);
    let compute = quarter
        .predict(&links(1, SumAlgorithm::Ring), 4)
        .seconds
        .compute;
    assert!(near(4.0 * compute, whole.seconds), "{compute}");
    assert!(4.0 * quarter.seconds < whole.seconds);
}

#[test]
fn classification_gathers_no_features() {
    let work = RankWork {
        embed_dim: 0,
        ..work()
    };
    let seconds = work.predict(&links(1, SumAlgorithm::Ring), 8).seconds;
    assert_eq!((seconds.gather, seconds.compute), (0.0, 0.5));
    let twice = RankWork {
        exchanges_feature_gradients: true,
        ..self::work()
    };
    let gather = |work: RankWork| {
        work.predict(&links(1, SumAlgorithm::Ring), 8)
            .seconds
            .gather
    };
    assert!(near(gather(twice), 2.0 * gather(self::work())));
}

#[test]
fn bandwidths_are_read_in_bits_and_in_bytes() {
    for (text, bytes) in [
        ("100 Gbit", 12.5e9),
        ("25Gbit/s", 3.125e9),
        ("100 Mbit", 12.5e6),
        ("10 Gbps", 1.25e9),
        ("1.5 GB/s", 1.5e9),
        ("300 MB/s", 3e8),
    ] {
        assert_eq!(bandwidth(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "100",
        "fast",
        "0 Gbit",
        "-1 Gbit",
        "1.2.3 Gbit",
        "1 gigabyte",
    ] {
        assert!(bandwidth(text).is_err(), "{text}");
    }
}
