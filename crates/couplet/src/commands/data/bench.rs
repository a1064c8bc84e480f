//! `couplet data bench`.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use couplet_data::loader::LoaderState;
use couplet_data::{Stage, StageTimes};
use couplet_train::ResolvedData;

use crate::commands::bar::bar;
use crate::commands::config_arguments::ConfigArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// How long to measure, in seconds, after two batches of warm-up
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Report whether a device with this throughput would have to wait for data
    #[arg(long, value_name = "SAMPLES/S")]
    device_speed: Option<f64>,
    #[command(flatten)]
    json: JsonArguments,
}

/// Batches that are not timed: they start threads and open the first shards.
const WARM_UP: usize = 2;

/// How fast a config's data loads.
struct Bench {
    samples: usize,
    skipped: usize,
    elapsed: Duration,
    times: StageTimes,
    threads: usize,
}

pub(crate) fn run(arguments: &BenchArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let set = arguments.config.set();
    let data = ResolvedData::read_input(&arguments.config.input(&set))?;
    let bench = measure(&data, Duration::from_secs_f64(arguments.seconds))?;
    bench.print(arguments.device_speed);
    arguments.json.write(&bench.to_json())?;
    Ok(exit_code::DONE)
}

fn measure(data: &ResolvedData, at_least: Duration) -> anyhow::Result<Bench> {
    let loader = data.start_loader(&LoaderState::default())?;
    for _ in 0..WARM_UP {
        loader.next_batch()?;
    }
    let (start, before) = (Instant::now(), loader.stage_times());
    let (mut samples, mut skipped) = (0, 0);
    let bar = bar(None, "samples");
    while start.elapsed() < at_least {
        let batch = loader.next_batch()?;
        samples += batch.len();
        skipped += batch.skipped.len();
        bar.set_position(samples as u64);
    }
    bar.finish_and_clear();
    if samples == 0 {
        return Err(anyhow!("--seconds: too short to load a batch"));
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match data.table.threads {
        0 => cores(),
        threads => threads,
    };
    Ok(Bench {
        samples,
        skipped,
        elapsed: start.elapsed(),
        times: loader.stage_times().since(&before),
        threads,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
impl Bench {
    fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.elapsed.as_secs_f64()
    }

    /// Per sample, in one thread.
    fn milliseconds(&self, stage: Stage) -> f64 {
        1e3 * self.times.get(stage).as_secs_f64() / self.samples as f64
    }

    fn to_json(&self) -> serde_json::Value {
        let stages: serde_json::Map<_, _> = Stage::ALL
            .iter()
            .map(|stage| (stage.to_string(), self.milliseconds(*stage).into()))
            .collect();
        serde_json::json!({
            "samples_per_second": self.samples_per_second(),
            "samples": self.samples,
            "skipped": self.skipped,
            "seconds": self.elapsed.as_secs_f64(),
            "threads": self.threads,
            "milliseconds_per_sample": stages,
        })
    }

    fn print(&self, device_speed: Option<f64>) {
        let speed = self.samples_per_second();
        say!(
            "{speed:.0} samples/s with {} threads ({} samples in {:.1} s, {} skipped)",
            self.threads,
            self.samples,
            self.elapsed.as_secs_f64(),
            self.skipped
        );
        let total = self.times.total().as_secs_f64().max(1e-9);
        say!("\n  {:24} {:>10}  {:>6}", "stage", "ms/sample", "share");
        for stage in Stage::ALL {
            say!(
                "  {:24} {:>10.3}  {:>5.1}%",
                stage.to_string(),
                self.milliseconds(stage),
                100.0 * self.times.get(stage).as_secs_f64() / total
            );
        }
        let Some(device) = device_speed else {
            return;
        };
        if device > speed {
            say!(
                "\na device at {device:.0} samples/s would wait {:.0}% of the time, mostly for {}; it needs \
                 about {:.0} such threads",
                100.0 * (1.0 - speed / device),
                self.times.slowest(),
                (device / speed * self.threads as f64).ceil()
            );
        } else {
            say!(
                "\na device at {device:.0} samples/s would not wait: data loads {:.1} times as fast",
                speed / device
            );
        }
    }
}
