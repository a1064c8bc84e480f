//! `device = "…"` to a Burn device.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A device's name in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSetting {
    /// The fastest kind that this binary was built with.
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
        let mut names = vec!["auto", "flex"];
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

    /// The Burn device, or `None` if the binary was built without its backend.
    pub fn open(self) -> Option<Device> {
        match self {
            Self::Auto => self.resolved().open(),
            Self::Flex => Some(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Some(Device::cuda(index)),
            #[cfg(feature = "rocm")]
            Self::Rocm(index) => Some(Device::rocm(index)),
            #[cfg(feature = "metal")]
            Self::Metal => Some(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[allow(
                unreachable_patterns,
                reason = "reached unless every backend is built in"
            )]
            _ => None,
        }
    }

    /// What `auto` stands for in this binary; anything else stands for itself.
    pub fn resolved(self) -> Self {
        if self != Self::Auto {
            self
        } else if cfg!(feature = "cuda") {
            Self::Cuda(0)
        } else if cfg!(feature = "rocm") {
            Self::Rocm(0)
        } else if cfg!(feature = "metal") {
            Self::Metal
        } else if cfg!(feature = "vulkan") {
            Self::Vulkan
        } else if cfg!(feature = "wgpu") {
            Self::Wgpu
        } else {
            Self::Flex
        }
    }
}

impl FromStr for DeviceSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, index.parse().ok()),
            None => (text, Some(0)),
        };
        Ok(match (kind, index, text.contains(':')) {
            ("auto", _, false) => Self::Auto,
            ("flex", _, false) => Self::Flex,
            ("metal", _, false) => Self::Metal,
            ("vulkan", _, false) => Self::Vulkan,
            ("wgpu", _, false) => Self::Wgpu,
            ("cuda", Some(index), _) => Self::Cuda(index),
            ("rocm", Some(index), _) => Self::Rocm(index),
            _ => {
                return Err(format!(
                    "`{text}` is no device; there are auto, flex, cuda:N, rocm:N, metal, vulkan \
                     and wgpu"
                ));
            }
        })
    }
}

impl fmt::Display for DeviceSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for text in [
            "auto", "flex", "cuda:0", "cuda:3", "rocm:1", "metal", "vulkan", "wgpu",
        ] {
            assert_eq!(text.parse::<DeviceSetting>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceSetting::Cuda(0)));
        for text in ["gpu", "flex:1", "cuda:x", ""] {
            assert!(text.parse::<DeviceSetting>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceSetting::Flex.open().is_some());
        assert!(DeviceSetting::Auto.open().is_some());
    }
}
