//! The model against published runs. `experiments/ranks/model.md` is about these tests.

use super::{BUCKET_BYTES, Interconnect, Link, Prediction, RankWork, STEP_SPREAD, SumAlgorithm};

/// NCCL's constants of a step of a ring of large messages, over NVLink and over a network. Source: `hwLat`
/// in `src/graph/tuning.cc`.
const LATENCIES: [f64; 2] = [3.4e-6, 9.6e-6];
/// Channels of NCCL take up to a fifth of an A100's or an H100's multiprocessors (24 of 108, 24 of 132).
const OVERLAP_COST: f64 = 0.2;
/// A 200 Gbit/s port carries this much. NVIDIA on nccl-tests' issues 267 and 290: 48 GB/s of 400 Gbit/s.
const HDR: f64 = 24e9;

/// One kind of machine.
#[derive(Clone, Copy)]
struct Machine {
    gpus: usize,
    /// Bus bandwidth of NCCL within a machine.
    nvlink: f64,
    network: f64,
    /// Dense products in bf16 at two thirds of the peak, in FLOP/s.
    products: f64,
    /// Memory at four fifths of the peak.
    memory: f64,
}

/// 235 GB/s: the limit for this architecture in NCCL's `src/graph/tuning.cc`. Eight HDR ports.
const DGX_A100: Machine = Machine {
    gpus: 8,
    nvlink: 235e9,
    network: 8.0 * HDR,
    products: 208e12,
    memory: 1.6e12,
};
/// 370 GB/s: NVIDIA on nccl-tests' issue 212. Eight NDR ports.
const DGX_H100: Machine = Machine {
    gpus: 8,
    nvlink: 370e9,
    network: 16.0 * HDR,
    products: 660e12,
    memory: 2.7e12,
};
/// As the H100, four to a machine, with four NDR200 ports. Source: apps.fz-juelich.de, "JUPITER
/// Hardware Overview".
const JUPITER: Machine = Machine {
    gpus: 4,
    network: 4.0 * HDR,
    ..DGX_H100
};
/// Ten Gigabit Ethernet, 94% of which TCP leaves, between machines as DGX A100s.
const ETHERNET: Machine = Machine {
    network: 0.94 * 1.25e9,
    ..DGX_A100
};

/// A published run of PyTorch's `DistributedDataParallel`, weak scaling.
struct Run {
    machine: Machine,
    /// Pairs of one GPU.
    batch: usize,
    embed_dim: usize,
    parameters: f64,
    /// Samples per second of one GPU at the smallest published size: one machine.
    base_speed: f64,
}

impl Run {
    fn interconnect(&self) -> Interconnect {
        let [local, network] = LATENCIES;
        Interconnect {
            ranks_per_node: self.machine.gpus,
            local: Link {
                latency: local,
                bandwidth: self.machine.nvlink,
            },
            network: Link {
                latency: network,
                bandwidth: self.machine.network,
            },
            algorithm: SumAlgorithm::Ring,
            overlap_cost: OVERLAP_COST,
        }
    }

    /// - seconds: of a step of one GPU alone.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn work(&self, seconds: f64) -> RankWork {
        let gradients = 4.0 * self.parameters;
        // The loss writes and reads two matrices of logits in f32 about ten times.
        let products = 12.0 * self.embed_dim as f64;
        let logit = products / self.machine.products + 10.0 * 8.0 / self.machine.memory;
        RankWork {
            batch: self.batch,
            embed_dim: self.embed_dim,
            seconds,
            // All but the last bucket hide behind the backward pass, two thirds of a step.
            hiding_seconds: seconds * 2.0 / 3.0,
            early_bytes: gradients - BUCKET_BYTES,
            late_bytes: BUCKET_BYTES,
            loss_flops_per_second: products / logit,
            exchanges_feature_gradients: true,
            spread: STEP_SPREAD,
        }
    }

    fn predict(&self, ranks: usize) -> Prediction {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let wanted = self.batch as f64 / self.base_speed;
        let mut seconds = wanted;
        // Only the speed of a whole machine is published, whose GPUs exchange and wait as well.
        for _ in 0..50 {
            let base = self
                .work(seconds)
                .predict(&self.interconnect(), self.machine.gpus);
            seconds *= wanted / base.seconds.total();
        }
        self.work(seconds).predict(&self.interconnect(), ranks)
    }

    /// The speed of a GPU, relative to one of a single machine.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn efficiency(&self, ranks: usize) -> f64 {
        self.predict(ranks).samples_per_second / ranks as f64 / self.base_speed
    }

    /// Asserts that predicted efficiencies are near the published ones.
    /// - published: GPUs, samples per second of one of them.
    /// - below, above: how much the prediction may be below and above, in percentage points.
    fn compare(&self, name: &str, published: &[(usize, f64)], [below, above]: [f64; 2]) {
        for (ranks, speed) in published {
            let measured = 100.0 * speed / self.base_speed;
            let predicted = 100.0 * self.efficiency(*ranks);
            assert!(
                (-below..=above).contains(&(predicted - measured)),
                "{name}, {ranks}: {predicted:.1}% and not {measured:.1}%"
            );
        }
    }
}

/// Samples per second of a GPU from those of all.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn of_nodes(speeds: &[f64]) -> Vec<(usize, f64)> {
    let nodes = (1..).map(|power| 1_usize << power);
    let gpus = nodes.map(|nodes| 8 * nodes).zip(speeds);
    gpus.map(|(gpus, speed)| (gpus, speed / gpus as f64))
        .collect()
}

/// CLIP g/14 on 1 to 16 machines: 1.366 billion parameters, width 1024. The page does not say how many
/// pairs a GPU has; 64 are assumed, with gradients in f32. Source: NeMo's user guide, CLIP, "Performance".
///
/// Published efficiencies are not monotone (H100: 90.5% at 64 and 92.4% at 128), so a point is worth about two
/// percentage points. The H100s lose 4% on the second machine already, which no part of the model explains.
#[test]
fn g_14_on_dgx_machines() {
    let run = |machine, speed: f64| Run {
        machine,
        batch: 64,
        embed_dim: 1024,
        parameters: 1.366e9,
        base_speed: speed / 8.0,
    };
    let a100 = of_nodes(&[1115.0, 2190.0, 4407.0, 8633.0]);
    run(DGX_A100, 559.0).compare("NeMo g/14, A100", &a100, [2.0, 2.0]);
    let h100 = of_nodes(&[1795.0, 3502.0, 6771.0, 13_829.0]);
    run(DGX_H100, 935.0).compare("NeMo g/14, H100", &h100, [0.0, 8.0]);
    // Other batches change little.
    for batch in [32, 128] {
        let other = Run {
            batch,
            ..run(DGX_A100, 559.0)
        };
        let change = other.efficiency(128) - run(DGX_A100, 559.0).efficiency(128);
        assert!(change.abs() < 0.01, "{batch}: {change}");
    }
}

/// CLAP on 4 to 512 GH200: HTSAT-tiny with 31 million parameters or -base with 75, RoBERTa-base with
/// 125, width 512. Source: github.com/LAION-AI/open-clap-scaling.
///
/// Up to 128 GPUs the model is within 3 percentage points; beyond, a shared dragonfly network loses what the
/// model does not know.
#[test]
fn clap_on_jupiter() {
    let tiny = Run {
        machine: JUPITER,
        batch: 616,
        embed_dim: 512,
        parameters: 156e6,
        base_speed: 623.7,
    };
    let base = Run {
        batch: 416,
        parameters: 200e6,
        base_speed: 538.2,
        ..tiny
    };
    let few = [8, 16, 32, 64, 128];
    let published = [620.7, 616.5, 611.6, 601.8, 586.0];
    let published: Vec<_> = few.into_iter().zip(published).collect();
    tiny.compare("CLAP tiny", &published, [1.0, 3.0]);
    tiny.compare("CLAP tiny", &[(256, 573.3), (512, 544.6)], [0.0, 6.0]);
    let published = [530.5, 523.7, 521.9, 507.8, 505.4];
    let published: Vec<_> = few.into_iter().zip(published).collect();
    base.compare("CLAP base", &published, [0.0, 3.0]);
    base.compare("CLAP base", &[(256, 485.3), (512, 454.8)], [0.0, 10.0]);
}

fn b_32(machine: Machine) -> Run {
    Run {
        machine,
        batch: 256,
        embed_dim: 512,
        parameters: 151.3e6,
        base_speed: 772.0,
    }
}

/// ViT-B/32 on 128 A100 at 772 samples per second each (open_clip's `docs/PRETRAINED.md`: 12.8 billion samples in 36
/// hours), and open_clip's issue 325: with 10 Gbit/s between machines "communication becomes the bottleneck" and each
/// machine more makes a step longer; "more than 50 Gbit/s" are needed.
#[test]
fn slow_networks_are_the_bottleneck_that_users_found() {
    let machines = |machine, count: usize| b_32(machine).efficiency(8 * count);
    let [two, four, eight] = [2, 4, 8].map(|count| machines(ETHERNET, count));
    assert!(two > four && four > eight, "{two} {four} {eight}");
    let at_50 = machines(
        Machine {
            network: 0.94 * 6.25e9,
            ..DGX_A100
        },
        8,
    );
    let at_hdr = machines(DGX_A100, 16);
    assert!(eight < 0.5, "{eight}");
    assert!((0.7..0.95).contains(&at_50), "{at_50}");
    assert!(at_hdr > 0.94, "{at_hdr}");
}
