//! What a training step asks of an NVIDIA GPU, found out without one: the program runs over stand-ins for the driver
//! and cuBLASLt, NVIDIA's compiler builds every kernel that it starts, and the assembler says what each of them needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace;

/// Models whose steps are measured, and compute capabilities.
const RUNS: [(&str, &str, u32); 5] = [
    ("ViT-B-32", "bf16", 90),
    ("ViT-B-32", "fp32", 90),
    ("ViT-B-32", "fp16", 80),
    ("ViT-B-16", "bf16", 80),
    ("RN50", "bf16", 90),
];
/// The most launches and products of a ViT-B-32's step.
const MOST_LAUNCHES: u64 = 1500;
/// How the names of our kernels begin (`couplet-kernels/src/cube`).
const OWN: [&str; 19] = [
    "backward_",
    "columns_",
    "exchange_",
    "forward_",
    "gather_",
    "gradient_",
    "kept_",
    "limit_",
    "move_heads_",
    "narrow_",
    "normalize_",
    "scaled_columns_",
    "scatter_",
    "squares_",
    "sum_x_",
    "sums_x_",
    "total_",
    "update_",
    "add_",
];

/// What the stand-ins counted.
type Counts = BTreeMap<String, u64>;

/// What the assembler says of a kernel.
struct Usage {
    name: String,
    registers: u64,
    spilled: u64,
}

/// - toolkit: the folder `nvidia/cu13` of NVIDIA's Python packages, or one of its toolkit's layout.
/// - binary: of a build with the feature `cuda`.
pub(crate) fn run(toolkit: &Path, binary: &Path) -> Result<Vec<String>, String> {
    let folder = workspace::root().join("target/nvrtc");
    let _ = fs::remove_dir_all(&folder);
    let stand_ins = folder.join("lib");
    fs::create_dir_all(&stand_ins).map_err(|error| format!("{}: {error}", stand_ins.display()))?;
    for (source, library) in [
        ("driver.c", "libcuda.so.1"),
        ("cublaslt.c", "libcublasLt.so.13"),
    ] {
        compile(source, &stand_ins.join(library))?;
    }
    let mut broken = Vec::new();
    for (model, precision, arch) in RUNS {
        let program = Program {
            toolkit,
            binary,
            stand_ins: &stand_ins,
            modules: folder.join(format!("{model}-{precision}-{arch}")),
            settings: [
                format!("model.preset={model}"),
                format!("precision={precision}"),
            ],
            arch,
        };
        let step = program.step()?;
        let of = |name: &str| step.get(name).copied().unwrap_or(0);
        let all = of("launches") + of("products");
        println!(
            "{model}, {precision}, sm_{arch}: a step has {} launches, {} products, {} waits and {} downloads",
            of("launches"),
            of("products"),
            of("waits"),
            of("downloads"),
        );
        let may_wait = precision == "fp16";
        if !may_wait && of("waits") + of("downloads") > 0 {
            broken.push(format!("{model}, {precision}: a step waits for the device"));
        }
        if model == "ViT-B-32" && all > MOST_LAUNCHES {
            broken.push(format!(
                "{model}, {precision}: {all} launches, more than {MOST_LAUNCHES}"
            ));
        }
        let usages = program.usages()?;
        let most = usages.iter().map(|usage| usage.registers).max();
        println!(
            "  {} kernels, at most {} registers",
            usages.len(),
            most.unwrap_or(0)
        );
        for usage in usages.iter().filter(|usage| usage.spilled > 0) {
            println!("  {} spills {} bytes", usage.name, usage.spilled);
            if OWN.iter().any(|own| usage.name.starts_with(own)) {
                broken.push(format!(
                    "{} spills {} bytes on sm_{arch}",
                    usage.name, usage.spilled
                ));
            }
        }
    }
    Ok(broken)
}

/// Builds a stand-in with the system's C compiler.
fn compile(source: &str, library: &Path) -> Result<(), String> {
    let source = workspace::root().join("xtask/src/nvrtc").join(source);
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread"]);
    command.arg(source).arg("-o").arg(library);
    printed(&mut command).map(drop)
}

/// A program that trains a model on stand-ins.
struct Program<'a> {
    toolkit: &'a Path,
    binary: &'a Path,
    stand_ins: &'a Path,
    /// For the code of its kernels.
    modules: PathBuf,
    settings: [String; 2],
    arch: u32,
}

impl Program<'_> {
    /// What one step more asks for. CubeCL waits once for every 64 uploads, for those of steps before, which is less than
    /// once a step.
    fn step(&self) -> Result<Counts, String> {
        const MORE: u64 = 8;
        let (few, many) = (self.steps(2)?, self.steps(2 + MORE)?);
        let more = many.into_iter().map(|(name, count)| {
            let before = few.get(&name).copied().unwrap_or(0);
            (name, count.saturating_sub(before) / MORE)
        });
        Ok(more.collect())
    }

    fn steps(&self, steps: u64) -> Result<Counts, String> {
        // A home of its own, so that no kernel is found in CubeCL's cache.
        let home = self.modules.join(format!("home-{steps}"));
        fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let log = home.join("counts");
        let libraries = format!(
            "{}:{}",
            self.stand_ins.display(),
            self.toolkit.join("lib").display()
        );
        let mut command = Command::new(self.binary);
        command
            .arg("train")
            .arg(workspace::root().join("configs/shapes.toml"))
            .arg("--run-dir")
            .arg(home.join("run"))
            .current_dir(&home)
            .env("HOME", &home)
            .env_remove("XDG_CACHE_HOME")
            .env("LD_LIBRARY_PATH", libraries)
            .env("CUDA_PATH", self.toolkit)
            .env("STAND_IN_ARCH", self.arch.to_string())
            .env("STAND_IN_LOG", &log)
            .env("STAND_IN_MODULES", &self.modules);
        let length = format!("schedule.length={steps} steps");
        for setting in [
            "device=cuda:0",
            "batch.global=16",
            "data.train.samples_per_epoch=320",
            "eval=[]",
            "checkpoint.best=",
            "log.every=50 steps",
            "log.tensorboard=false",
            "schedule.warmup=1 steps",
            &length,
        ]
        .into_iter()
        .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["--set", setting]);
        }
        let done = printed(&mut command);
        // Checkpoints of these models are large.
        let _ = fs::remove_dir_all(home.join("run"));
        done?;
        let mut counts = Counts::new();
        for path in [log.clone(), log.with_extension("products")] {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            for line in text.lines() {
                let (name, count) = line
                    .rsplit_once(' ')
                    .ok_or("a count is a name and a number")?;
                *counts.entry(name.to_owned()).or_default() += count.parse().unwrap_or(0);
            }
        }
        Ok(counts)
    }

    /// Assembles the kernels that the program compiled.
    fn usages(&self) -> Result<Vec<Usage>, String> {
        let entries = fs::read_dir(&self.modules);
        let entries = entries.map_err(|error| format!("{}: {error}", self.modules.display()))?;
        let mut usages = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "ptx") {
                continue;
            }
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            let after = |word: &str| {
                let rest = text.split_once(word)?.1;
                rest.split_whitespace().next().map(str::to_owned)
            };
            let target = after(".target").unwrap_or_default();
            let name = after(".entry").unwrap_or_default();
            let mut command = Command::new(self.toolkit.join("bin/ptxas"));
            command.args(["-v", "-arch", target.trim_end_matches(',')]);
            command
                .arg(&path)
                .arg("-o")
                .arg(path.with_extension("cubin"));
            let said = printed(&mut command)?;
            usages.push(Usage {
                name: name.trim_end_matches('(').to_owned(),
                registers: number_before(&said, " registers"),
                spilled: number_before(&said, " bytes spill stores"),
            });
        }
        usages.sort_by(|a, b| a.name.cmp(&b.name));
        usages.dedup_by(|a, b| a.name == b.name);
        Ok(usages)
    }
}

/// The number that stands before some words; 0 if they are not there.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split_once(words).map_or("", |(before, _)| before);
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Runs a command; returns what it printed.
fn printed(command: &mut Command) -> Result<String, String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Err(format!("{shown}: {}", err.trim()));
    }
    Ok(out + &err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_assembler_says() {
        let said = "ptxas info    : Function properties for k\n    16 bytes stack frame, 12 bytes spill stores, 8 \
                    bytes spill loads\nptxas info    : Used 255 registers, used 1 barriers";
        assert_eq!(number_before(said, " registers"), 255);
        assert_eq!(number_before(said, " bytes spill stores"), 12);
        assert_eq!(number_before(said, " bytes of nothing"), 0);
    }
}
