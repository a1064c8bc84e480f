//! `device = "…"` to a Burn device.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use burn::tensor::Device;
#[cfg(any(feature = "metal", feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceKind;
use couplet_loss::default_chunk;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nearest::nearest;

/// A device's name in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSetting {
    /// The fastest kind of device that is there.
    Auto,
    /// The CPU.
    Flex,
    Cuda(usize),
    Rocm(usize),
    Metal,
    Vulkan,
    Wgpu,
}

impl DeviceSetting {
    /// The names that this binary can serve.
    pub fn built_in() -> Vec<&'static str> {
        let mut names = vec!["auto", "cpu"];
        for (name, built) in [
            ("cuda:N", cfg!(feature = "cuda")),
            ("rocm:N", cfg!(feature = "rocm")),
            ("metal", cfg!(feature = "metal")),
            ("vulkan", cfg!(feature = "vulkan")),
            ("wgpu", cfg!(feature = "wgpu")),
        ] {
            if built {
                names.push(name);
            }
        }
        names
    }

    /// The devices of this machine that this binary can use, the fastest kind first and the
    /// CPU last.
    pub fn found() -> Vec<Self> {
        let gpus = Self::gpus().into_iter().map(|(gpu, _)| gpu);
        gpus.chain([Self::Flex]).collect()
    }

    /// Graphics cards, and whether they are one: a graphics driver may compute on the CPU.
    #[allow(clippy::vec_init_then_push, reason = "parts are built in or not")]
    #[allow(unused_mut, reason = "where no other backend is built in")]
    fn gpus() -> Vec<(Self, bool)> {
        let mut gpus = Vec::new();
        // Before the first device is asked for.
        #[cfg(feature = "cuda")]
        let _ = couplet_kernels::kernel_cache();
        #[cfg(feature = "cuda")]
        gpus.extend(
            (0..listed(burn::tensor::DeviceType::Cuda).len()).map(|at| (Self::Cuda(at), true)),
        );
        #[cfg(feature = "rocm")]
        gpus.extend(
            (0..listed(burn::tensor::DeviceType::Rocm).len()).map(|at| (Self::Rocm(at), true)),
        );
        #[cfg(feature = "metal")]
        gpus.extend(first(
            Self::Metal,
            burn::tensor::DeviceType::Metal,
            Device::metal,
        ));
        #[cfg(feature = "vulkan")]
        gpus.extend(first(
            Self::Vulkan,
            burn::tensor::DeviceType::Vulkan,
            Device::vulkan,
        ));
        #[cfg(feature = "wgpu")]
        gpus.extend(first(
            Self::Wgpu,
            burn::tensor::DeviceType::Wgpu,
            Device::wgpu,
        ));
        gpus
    }

    /// The Burn device.
    ///
    /// # Errors
    /// If the binary was built without its backend, or this machine has no such device.
    pub fn open(self) -> Result<Device, DeviceError> {
        let setting = self.resolved();
        let device = match setting {
            Self::Flex => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Device::cuda(index),
            #[cfg(feature = "rocm")]
            Self::Rocm(index) => Device::rocm(index),
            #[cfg(feature = "metal")]
            Self::Metal => Device::metal(DeviceKind::DefaultDevice),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::vulkan(DeviceKind::DefaultDevice),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(DeviceKind::DefaultDevice),
            #[allow(
                unreachable_patterns,
                reason = "reached unless every backend is built in"
            )]
            _ => return Err(DeviceError::NotBuilt { setting }),
        };
        if setting == Self::Flex {
            return Ok(device);
        }
        let found = Self::found();
        if !found.contains(&setting) {
            return Err(DeviceError::NotThere { setting, found });
        }
        #[cfg(feature = "cuda")]
        if let (Self::Cuda(_), Some(problem)) = (setting, couplet_kernels::cuda_problem()) {
            let problem = problem.to_string();
            return Err(DeviceError::NotUsable { setting, problem });
        }
        Ok(device)
    }

    /// The device of one of several processes on this machine: the first of its kind in `self` becomes the one
    /// with this process's number. Where there are fewer devices, processes share them; a launcher may also let
    /// each process see only its own. Any other stays as it is, and so does that of the first process.
    /// - local_rank: this process's number on this machine, counted from 0.
    #[must_use]
    pub fn of_local_rank(self, local_rank: usize) -> Self {
        self.nth(local_rank, self.devices_like_it())
    }

    /// - visible: devices of its kind that this process sees.
    fn nth(self, local_rank: usize, visible: usize) -> Self {
        let Some(number) = local_rank.checked_rem(visible).filter(|number| *number > 0) else {
            return self;
        };
        match self.resolved() {
            Self::Cuda(0) => Self::Cuda(number),
            Self::Rocm(0) => Self::Rocm(number),
            _ => self,
        }
    }

    /// How many devices of its kind this process sees.
    pub fn devices_like_it(self) -> usize {
        let kind = std::mem::discriminant(&self.resolved());
        let found = Self::found().into_iter();
        found
            .filter(|device| std::mem::discriminant(device) == kind)
            .count()
    }

    /// Resolves `auto` to the fastest kind of device that this binary supports and this machine
    /// has; returns any other setting unchanged.
    pub fn resolved(self) -> Self {
        static AUTO: OnceLock<DeviceSetting> = OnceLock::new();
        if self != Self::Auto {
            return self;
        }
        *AUTO.get_or_init(|| {
            let mut gpus = Self::gpus().into_iter();
            gpus.find(|(_, is_card)| *is_card)
                .map_or(Self::Flex, |(gpu, _)| gpu)
        })
    }
}

/// The devices of a backend that this machine has.
#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
fn listed(kind: burn::tensor::DeviceType) -> Vec<Device> {
    Device::enumerate(kind).into_iter().collect()
}

/// The device that a graphics interface chooses by itself, if it has any.
#[cfg(any(feature = "metal", feature = "vulkan", feature = "wgpu"))]
fn first(
    setting: DeviceSetting,
    kind: burn::tensor::DeviceType,
    of: impl Fn(DeviceKind) -> Device,
) -> Option<(DeviceSetting, bool)> {
    let devices = listed(kind);
    let software = of(DeviceKind::Cpu);
    let has_card = devices.iter().any(|device| *device != software);
    (!devices.is_empty()).then_some((setting, has_card))
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "this binary was built without {setting}; it has {}; build it with `--features {}`",
        DeviceSetting::built_in().join(", "),
        setting.feature()
    )]
    NotBuilt { setting: DeviceSetting },
    #[error("{setting} cannot be used: {problem}")]
    NotUsable {
        setting: DeviceSetting,
        problem: String,
    },
    #[error("this machine has no {setting}; available: {}", list(found))]
    NotThere {
        setting: DeviceSetting,
        found: Vec<DeviceSetting>,
    },
}

impl DeviceSetting {
    /// The cargo feature that builds its backend in.
    fn feature(self) -> String {
        let name = self.to_string();
        name.split(':').next().unwrap_or_default().to_string()
    }
}

/// The default number of rows of the logit matrix that exist at once on a device.
/// - batch: pairs of all ranks.
pub(crate) fn default_logit_rows(device: DeviceSetting, batch: usize) -> usize {
    /// On a GPU, small chunks leave it idle: each is dozens of launches. This many are 64 MiB, of which the loss holds
    /// some copies.
    const LOGITS: usize = 1 << 24;
    let rows = default_chunk(batch);
    match device.resolved() {
        DeviceSetting::Flex => rows,
        _ => (LOGITS / batch.max(1)).max(rows),
    }
}

/// Why processes on such a device cannot exchange tensors by NCCL, if they cannot: what is known before the
/// library is loaded.
pub(crate) fn obstacle_to_nccl(device: DeviceSetting) -> Option<String> {
    if !cfg!(feature = "nccl") {
        let words = "this program was built without it; build it with `--features mpi,cuda,nccl`";
        return Some(words.to_string());
    }
    let device = device.resolved();
    let is_cuda = matches!(device, DeviceSetting::Cuda(_));
    (!is_cuda).then(|| {
        format!("the device is {device}, but NCCL needs an NVIDIA GPU (device = \"cuda\")")
    })
}

fn list(found: &[DeviceSetting]) -> String {
    let names: Vec<String> = found.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// A text that is not a device's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a device; {}", advice(text))]
pub struct ParseDeviceError {
    text: String,
}

/// The device that was meant, with its number, or else all.
fn advice(text: &str) -> String {
    let (kind, index) = text.split_once(':').unwrap_or((text, ""));
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == kind);
    let name = other.map(|(_, name)| *name);
    let Some(name) = name.or_else(|| nearest(kind, DEVICES)) else {
        return "the devices are auto, cpu, cuda:N, rocm:N, metal, vulkan and wgpu".into();
    };
    let index = index.parse::<usize>().ok().map(|index| format!(":{index}"));
    let index = index.filter(|index| format!("{name}{index}").parse::<DeviceSetting>().is_ok());
    format!("did you mean `{name}{}`?", index.unwrap_or_default())
}

const DEVICES: [&str; 7] = ["auto", "cpu", "cuda", "rocm", "metal", "vulkan", "wgpu"];

/// What other programs call a device.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("gpu", "cuda"),
    ("nvidia", "cuda"),
    ("hip", "rocm"),
    ("mps", "metal"),
];

impl FromStr for DeviceSetting {
    type Err = ParseDeviceError;

    /// `flex`, Burn's name of the CPU backend, is `cpu`.
    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, index.parse().ok()),
            None => (text, Some(0)),
        };
        Ok(match (kind, index, text.contains(':')) {
            ("auto", _, false) => Self::Auto,
            ("cpu" | "flex", _, false) => Self::Flex,
            ("metal", _, false) => Self::Metal,
            ("vulkan", _, false) => Self::Vulkan,
            ("wgpu", _, false) => Self::Wgpu,
            ("cuda", Some(index), _) => Self::Cuda(index),
            ("rocm", Some(index), _) => Self::Rocm(index),
            _ => {
                return Err(ParseDeviceError {
                    text: text.to_string(),
                });
            }
        })
    }
}

impl fmt::Display for DeviceSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Rocm(index) => write!(f, "rocm:{index}"),
            Self::Metal => f.write_str("metal"),
            Self::Vulkan => f.write_str("vulkan"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl Serialize for DeviceSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for DeviceSetting {
    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A device: `auto`, `cpu`, `cuda:N`, `rocm:N`, `metal`, `vulkan` or `wgpu`.",
            "pattern": r"^(auto|cpu|flex|metal|vulkan|wgpu|(cuda|rocm)(:\+?[0-9]+)?)$",
            "examples": ["auto", "cpu", "cuda:0"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for text in [
            "auto", "cpu", "cuda:0", "cuda:3", "rocm:1", "metal", "vulkan", "wgpu",
        ] {
            assert_eq!(text.parse::<DeviceSetting>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceSetting::Cuda(0)));
        assert_eq!("flex".parse(), Ok(DeviceSetting::Flex));
        for text in ["gpu", "cpu:1", "cuda:x", ""] {
            assert!(text.parse::<DeviceSetting>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_device_that_was_meant_keeps_its_number() {
        for (text, meant) in [
            ("cuad:0", "cuda:0"),
            ("rcom:12", "rocm:12"),
            ("cuad", "cuda"),
            ("cuda:x", "cuda"),
            ("cpuu:1", "cpu"),
            ("gpu:1", "cuda:1"),
            ("mps", "metal"),
        ] {
            let error = text.parse::<DeviceSetting>().unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("did you mean `{meant}`?")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceSetting::Flex.open().is_ok());
        assert!(DeviceSetting::Auto.open().is_ok());
        assert_eq!(DeviceSetting::found().last(), Some(&DeviceSetting::Flex));
    }

    #[test]
    fn ranks_take_the_devices_that_they_see_in_turn() {
        let first = DeviceSetting::Cuda(0);
        let taken: Vec<DeviceSetting> = (0..4).map(|rank| first.nth(rank, 2)).collect();
        assert_eq!(taken, [0, 1, 0, 1].map(DeviceSetting::Cuda));
        assert_eq!(first.nth(3, 8), DeviceSetting::Cuda(3));
        // Each sees only its own.
        assert_eq!(first.nth(3, 1), first);
        assert_eq!(first.nth(3, 0), first);
        assert_eq!(DeviceSetting::Cuda(2).nth(1, 4), DeviceSetting::Cuda(2));
        assert_eq!(DeviceSetting::Auto.nth(0, 4), DeviceSetting::Auto);
        assert_eq!(DeviceSetting::Flex.nth(3, 1), DeviceSetting::Flex);
    }

    #[test]
    fn a_device_that_cannot_be_used_says_what_can() {
        // No machine has this many.
        let error = DeviceSetting::Cuda(999).open().unwrap_err().to_string();
        let expected = if cfg!(feature = "cuda") {
            "this machine has no cuda:999"
        } else {
            "this binary was built without cuda:999"
        };
        assert!(
            error.starts_with(expected) && error.contains("cpu"),
            "{error}"
        );
    }
}
