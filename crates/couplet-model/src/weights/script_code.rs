//! What the code of a TorchScript archive says about its model. The code is searched, never run.

use std::io::{Read, Seek};

use zip::ZipArchive;

use crate::spec::{Activation, ModelSpec};

/// Of the code, this much is read; a CLIP model's has a tenth of it.
const MAX_CODE: u64 = 16 << 20;
/// The factor of QuickGELU: `x * sigmoid(1.702 x)`.
const QUICK_FACTOR: f64 = 1.702;
/// The same in f16 and bf16.
const QUICK_F16: u16 = 0x3ECF;
const QUICK_BF16: u16 = 0x3FDA;

/// What an archive's code computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScriptCode {
    /// The activations that occur in it; empty if none was recognised.
    activations: Vec<Activation>,
}

impl ScriptCode {
    /// The activation of both towers, if the code leaves no doubt.
    pub fn activation(&self) -> Option<Activation> {
        match self.activations[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// How the code differs from a model of this architecture, as far as it is certain.
    pub fn differences(&self, spec: &ModelSpec) -> Vec<String> {
        let Some(found) = self.activation() else {
            return Vec::new();
        };
        let towers = [
            ("image", spec.image_activation()),
            ("text", Some(spec.text_activation())),
        ];
        let difference = |(tower, wanted): (&str, Option<Activation>)| {
            let wanted = wanted.filter(|wanted| *wanted != found)?;
            let (found, wanted) = (found.name(), wanted.name());
            Some(format!(
                "the archive's code computes {found}, the architecture's {tower} tower {wanted}"
            ))
        };
        towers.into_iter().filter_map(difference).collect()
    }

    /// In words, for errors.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.activations.iter().map(|one| one.name()).collect();
        match names[..] {
            [] => "its code does not show the activation".into(),
            _ => format!("its code computes {}", names.join(" and ")),
        }
    }

    fn add(&mut self, activation: Activation) {
        if !self.activations.contains(&activation) {
            self.activations.push(activation);
        }
    }

    /// Adds what one file of code computes.
    /// - has_constant: whether a constant of the archive is QuickGELU's factor.
    fn search(&mut self, code: &str, has_constant: bool) {
        for call in code.split("torch.gelu(").skip(1) {
            let end = call.find(['\n', ')']).unwrap_or(call.len());
            // PyTorch prints only arguments that differ from their defaults.
            match call[..end].split_once("approximate=") {
                None => self.add(Activation::Gelu),
                Some((_, kind)) if kind.starts_with("\"tanh\"") => self.add(Activation::GeluTanh),
                Some((_, kind)) if kind.starts_with("\"none\"") => self.add(Activation::Gelu),
                Some(_) => {}
            }
        }
        let has_factor = code.contains("1.702") || (has_constant && code.contains("CONSTANTS."));
        if has_factor && code.contains("torch.sigmoid(") {
            self.add(Activation::QuickGelu);
        }
    }
}

/// Searches the code of an archive. A file of code that cannot be read says nothing.
/// - folder: the archive's only folder. names: of its files.
pub(super) fn read<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    folder: &str,
    names: &[String],
) -> ScriptCode {
    let mut budget = MAX_CODE;
    let mut contents = |name: &str| -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(file) = archive.by_name(name) {
            let _ = file.take(budget).read_to_end(&mut bytes);
        }
        budget -= bytes.len() as u64;
        bytes
    };
    let constants = format!("{folder}/constants/");
    let mut has_constant = false;
    for name in names.iter().filter(|name| name.starts_with(&constants)) {
        has_constant |= is_quick_factor(&contents(name));
    }
    let code = format!("{folder}/code/");
    let mut found = ScriptCode::default();
    for name in names {
        let is_python = name.rsplit('.').next() == Some("py");
        if name.starts_with(&code) && is_python {
            found.search(&String::from_utf8_lossy(&contents(name)), has_constant);
        }
    }
    found
}

/// Whether the bytes of a constant are QuickGELU's factor, in any dtype.
fn is_quick_factor(bytes: &[u8]) -> bool {
    const TOLERANCE: f64 = 1e-6;
    let is_near = |value: f64| (value - QUICK_FACTOR).abs() < TOLERANCE;
    match *bytes {
        [a, b] => [QUICK_F16, QUICK_BF16].contains(&u16::from_le_bytes([a, b])),
        [a, b, c, d] => is_near(f32::from_le_bytes([a, b, c, d]).into()),
        _ => match <[u8; 8]>::try_from(bytes) {
            Ok(bytes) => is_near(f64::from_le_bytes(bytes)),
            Err(_) => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_known_in_every_dtype() {
        assert!(is_quick_factor(&1.702f64.to_le_bytes()));
        assert!(is_quick_factor(&1.702f32.to_le_bytes()));
        // torch.tensor(1.702, dtype=torch.float16) and bfloat16.
        assert!(is_quick_factor(&[0xCF, 0x3E]) && is_quick_factor(&[0xDA, 0x3F]));
        assert!(!is_quick_factor(&1.7f32.to_le_bytes()) && !is_quick_factor(b"1.702"));
    }

    #[test]
    fn two_activations_leave_a_doubt() {
        let mut code = ScriptCode::default();
        code.search("return torch.gelu(x)\n", false);
        assert_eq!(code.activation(), Some(Activation::Gelu));
        code.search("return torch.gelu(x, approximate=\"tanh\")\n", false);
        assert_eq!(code.activation(), None);
        assert_eq!(code.describe(), "its code computes gelu and gelu-tanh");
    }
}
