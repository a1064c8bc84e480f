//! open_clip's pretrained weights, for the architectures that Couplet builds.
//!
//! The table is `pretrained.tsv`, which `scripts/pretrained_table.py` writes from open_clip's own `pretrained.py`. It adds the
//! licences, which the weights' pages state.

use std::sync::LazyLock;

/// The activation of a model's towers that its weights were trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// That of the architecture's config: the exact GELU, or its approximation by tanh (SigLIP, CLIPA).
    Gelu,
    /// `x * sigmoid(1.702 x)`, OpenAI's. Also for an architecture without `-quickgelu` in its name: open_clip warns there and
    /// computes other features than the weights' authors did.
    QuickGelu,
}

/// What open_clip's table says about the preprocessing of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Means of red, green and blue, of values from 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviations of red, green and blue.
    pub std: [f64; 3],
    /// `bicubic` or `bilinear`.
    pub interpolation: &'static str,
    /// `shortest` (resize the shorter side, then crop) or `squash` (resize both sides).
    pub resize_mode: &'static str,
}

/// The licence of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// An SPDX identifier where there is one, else the name on the weights' page; `unknown` if the page has none.
    pub name: String,
    /// Whether commercial use is allowed; `None` if that is not known.
    pub commercial: Option<bool>,
    /// The page that states it.
    pub page: String,
}

/// A row of the table: weights that have a name.
#[derive(Clone, Debug)]
pub struct Pretrained {
    /// The architecture, as open_clip names it.
    pub architecture: &'static str,
    /// The tag, as open_clip names it.
    pub tag: &'static str,
    /// The repository on the Hugging Face Hub, `org/name`.
    pub repository: Option<&'static str>,
    /// A link to one file of weights, whose hash is known.
    pub link: Option<&'static str>,
    /// The SHA-256 of the linked file: 64 hexadecimal digits, or the first 8 where no more is published.
    pub sha256: Option<&'static str>,
    /// The licence, as its page states it.
    pub licence: Licence,
    /// The activation of both towers.
    pub activation: Activation,
    /// The preprocessing of images.
    pub preprocess: Preprocess,
}

impl Pretrained {
    /// `ARCHITECTURE@TAG`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.architecture, self.tag)
    }
}

struct Table {
    rows: Vec<Pretrained>,
    untagged: Vec<&'static str>,
    missing: Vec<&'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        rows: Vec::new(),
        untagged: Vec::new(),
        missing: Vec::new(),
    };
    for line in include_str!("../pretrained.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let cells: Vec<&'static str> = line.split('\t').collect();
        match cells[..] {
            ["untagged", architecture] => table.untagged.push(architecture),
            ["missing", architecture] => table.missing.push(architecture),
            _ => table
                .rows
                .push(row(&cells).expect("a test reads every row of the table")),
        }
    }
    table
});

fn row(cells: &[&'static str]) -> Option<Pretrained> {
    let [
        architecture,
        tag,
        repository,
        link,
        sha256,
        licence,
        commercial,
        activation,
        mean,
        std,
        interpolation,
        resize_mode,
    ] = cells.try_into().ok()?;
    let given = |cell: &'static str| (!cell.is_empty()).then_some(cell);
    let page = match given(repository) {
        Some(_) if tag == "openai" => "https://github.com/openai/CLIP".to_owned(),
        Some(repository) => format!("https://huggingface.co/{repository}"),
        None => "https://github.com/mlfoundations/open_clip".to_owned(),
    };
    Some(Pretrained {
        architecture,
        tag,
        repository: given(repository),
        link: given(link),
        sha256: given(sha256),
        licence: Licence {
            name: licence.to_owned(),
            commercial: match commercial {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            page,
        },
        activation: match activation {
            "gelu" => Activation::Gelu,
            "quick-gelu" => Activation::QuickGelu,
            _ => return None,
        },
        preprocess: Preprocess {
            mean: numbers(mean)?,
            std: numbers(std)?,
            interpolation,
            resize_mode,
        },
    })
}

fn numbers(cell: &str) -> Option<[f64; 3]> {
    let values: Result<Vec<f64>, _> = cell.split(',').map(str::parse).collect();
    values.ok()?.try_into().ok()
}

/// All weights that have a name, in open_clip's order.
pub fn pretrained() -> &'static [Pretrained] {
    &TABLE.rows
}

/// The tags of an architecture (in any case), in open_clip's order. Empty if it has none, or if there is no such architecture.
pub fn tags_of(architecture: &str) -> Vec<&'static str> {
    let wanted = as_open_clip(architecture);
    let rows = pretrained()
        .iter()
        .filter(|row| row.architecture.eq_ignore_ascii_case(&wanted));
    rows.map(|row| row.tag).collect()
}

/// The architecture's name as open_clip writes it, if Couplet builds it.
pub fn architecture(name: &str) -> Option<&'static str> {
    let wanted = as_open_clip(name);
    architectures().find(|architecture| architecture.eq_ignore_ascii_case(&wanted))
}

/// The architectures of open_clip that Couplet builds, with and without weights.
pub(crate) fn architectures() -> impl Iterator<Item = &'static str> {
    let tagged = pretrained().iter().map(|row| row.architecture);
    tagged.chain(TABLE.untagged.iter().copied())
}

/// The name as open_clip writes it, of an architecture of open_clip that Couplet does not build.
pub fn not_built(name: &str) -> Option<&'static str> {
    let wanted = as_open_clip(name);
    TABLE
        .missing
        .iter()
        .copied()
        .find(|architecture| architecture.eq_ignore_ascii_case(&wanted))
}

/// open_clip's `model_name.replace('/', '-')`.
pub(crate) fn as_open_clip(architecture: &str) -> String {
    architecture.replace('/', "-")
}

/// Whether a licence on a page of the hub allows commercial use, where its name tells; case does not matter.
pub(crate) fn allows_commercial_use(licence: &str) -> Option<bool> {
    let name = licence.to_ascii_lowercase();
    let forbids = [
        "-nc-",
        "-nc",
        "noncommercial",
        "non-commercial",
        "apple-amlr",
        "apple-ascl",
        "research-only",
    ];
    if forbids.iter().any(|part| name.contains(part)) {
        return Some(false);
    }
    let allows = [
        "mit",
        "apache-2.0",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "unlicense",
        "isc",
    ];
    allows.contains(&name.as_str()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::{Activation, allows_commercial_use, not_built, pretrained, tags_of};

    #[test]
    fn every_row_can_be_downloaded_and_checked() {
        assert_eq!(pretrained().len(), 137);
        for row in pretrained() {
            assert!(
                row.repository.is_some() || row.link.is_some(),
                "{}",
                row.name()
            );
            assert_eq!(row.link.is_some(), row.sha256.is_some(), "{}", row.name());
            if let Some(hash) = row.sha256 {
                assert!(
                    matches!(hash.len(), 8 | 64)
                        && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{hash}"
                );
                assert!(row.link.unwrap().contains(hash));
            }
            assert_ne!(row.licence.name, "unknown");
        }
        let names: std::collections::HashSet<String> = pretrained()
            .iter()
            .map(|row| row.name().to_ascii_lowercase())
            .collect();
        assert_eq!(names.len(), pretrained().len());
    }

    #[test]
    fn licences_that_forbid_commercial_use_are_marked() {
        for row in pretrained() {
            let forbidden = row.tag.starts_with("metaclip") || row.tag.starts_with("dfn");
            assert_eq!(row.licence.commercial, Some(!forbidden), "{}", row.name());
            assert_eq!(
                allows_commercial_use(&row.licence.name),
                Some(!forbidden),
                "{}",
                row.name()
            );
        }
        assert_eq!(allows_commercial_use("some-licence"), None);
    }

    #[test]
    fn tags_are_found_by_architecture() {
        assert_eq!(tags_of("vit-l/14-336"), ["openai"]);
        assert_eq!(tags_of("ViT-B-16-SigLIP2"), ["webli"]);
        assert!(tags_of("convnext_base").is_empty());
        assert_eq!(not_built("ConvNext_Base"), Some("convnext_base"));
        let quick = pretrained()
            .iter()
            .find(|row| row.name() == "ViT-B-32@openai")
            .unwrap();
        assert_eq!(quick.activation, Activation::QuickGelu);
    }
}
