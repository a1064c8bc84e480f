//! Names of weights: `ViT-B-32@openai`, `ViT-B/32`, `hf:org/name@revision`.

use std::fmt;

use crate::error::{HubError, printable};
use crate::hints::{self, LIST, near, or_else, unknown};
use crate::pretrained::{self, Pretrained};

/// The names of OpenAI's package (`clip.available_models()`) with open_clip's architecture.
const OPENAI: [(&str, &str); 9] = [
    ("RN50", "RN50"),
    ("RN101", "RN101"),
    ("RN50x4", "RN50x4"),
    ("RN50x16", "RN50x16"),
    ("RN50x64", "RN50x64"),
    ("ViT-B/32", "ViT-B-32"),
    ("ViT-B/16", "ViT-B-16"),
    ("ViT-L/14", "ViT-L-14"),
    ("ViT-L/14@336px", "ViT-L-14-336"),
];

/// A name of weights.
#[derive(Clone, Debug)]
pub enum ModelName {
    /// Weights of open_clip's table.
    Pretrained(&'static Pretrained),
    /// A repository of the Hugging Face Hub.
    Repository(Repository),
}

/// A repository of the Hugging Face Hub, and which state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `org/name`, or only `name` for a few old ones.
    pub id: String,
    /// A branch, tag or commit; `None` is the branch `main`.
    pub revision: Option<String>,
}

impl Repository {
    /// Reads `org/name` or `org/name@revision`, by the rules of huggingface_hub's `validate_repo_id`.
    ///
    /// # Errors
    ///
    /// [`HubError::UnknownName`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let fail = |hint: &str| {
            Err(HubError::UnknownName {
                name: printable(text),
                hint: format!("{hint}; write `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`"),
            })
        };
        let (id, revision) = text
            .split_once('@')
            .map_or((text, None), |(id, revision)| (id, Some(revision)));
        if id.is_empty() {
            return fail("the repository's name is missing");
        }
        if id.matches('/').count() > 1 {
            return fail("a repository has one `/` between its organization and its name");
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        for part in id.split('/') {
            if part.is_empty() || !part.bytes().all(is_allowed) {
                return fail(
                    "the names of an organization and of a repository have only letters, digits, `-`, `_` and `.`",
                );
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return fail("a name neither begins nor ends with `-` or `.`");
            }
        }
        if id.len() > 96
            || id.contains("--")
            || id.contains("..")
            || id.strip_suffix(".git").is_some()
        {
            return fail(
                "a repository has at most 96 characters, no `--`, no `..`, and does not end in `.git`",
            );
        }
        if let Some(revision) = revision
            && !is_revision(revision)
        {
            return fail("the revision is no name of a branch, a tag or a commit");
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }
}

/// Whether a revision can be a folder's relative path, as git's own rules for references make sure.
pub(crate) fn is_revision(revision: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(['.', ' ']);
    revision.len() <= 200
        && revision.split('/').all(is_part)
        && !revision.contains("..")
        && revision
            .chars()
            .all(|character| !character.is_control() && !" ~^:?*[\\\"<>|".contains(character))
}

/// `ARCH@TAG` as open_clip writes it, or `hf:ORG/NAME@REVISION`.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pretrained(row) => f.write_str(&row.name()),
            Self::Repository(Repository { id, revision: None }) => write!(f, "hf:{id}"),
            Self::Repository(Repository {
                id,
                revision: Some(revision),
            }) => write!(f, "hf:{id}@{revision}"),
        }
    }
}

/// Reads a name of weights. `None` is any other text: a path, or an architecture without a tag (see
/// [`tags_of`](crate::tags_of)). A file of that name on the disk is the caller's matter, and should be looked for first.
///
/// # Errors
///
/// [`HubError::UnknownName`] for a text that is written as a name and is none: it names the nearest ones.
pub fn parse(text: &str) -> Result<Option<ModelName>, HubError> {
    for prefix in ["hf:", "hf-hub:"] {
        if let Some(repository) = text.strip_prefix(prefix) {
            let parsed = Repository::parse(repository).map_err(|error| match error {
                HubError::UnknownName { hint, .. } => HubError::UnknownName {
                    name: printable(text),
                    hint,
                },
                error => error,
            });
            return parsed.map(|repository| Some(ModelName::Repository(repository)));
        }
    }
    let openai = OPENAI
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text) && text.contains('/'));
    if let Some((_, architecture)) = openai {
        return Ok(find(architecture, "openai").map(ModelName::Pretrained));
    }
    if let Some((architecture, tag)) = text.split_once('@') {
        return tagged(text, architecture, tag);
    }
    // `ViT-B/23`: OpenAI's way of writing, but none of its names.
    if looks_like_openai(text) && pretrained::tags_of(text).is_empty() {
        return Err(unknown(
            text,
            "OpenAI has no such model",
            &OPENAI.map(|(name, _)| name.to_owned()),
        ));
    }
    Ok(None)
}

/// The OpenAI name of an architecture without a slash (`RN50`), whose weights OpenAI's package loads by that name. [`parse`]
/// leaves these to the caller, since the same text names an architecture of open_clip.
pub fn openai(text: &str) -> Option<ModelName> {
    let (_, architecture) = OPENAI
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))?;
    find(architecture, "openai").map(ModelName::Pretrained)
}

fn find(architecture: &str, tag: &str) -> Option<&'static Pretrained> {
    pretrained::pretrained().iter().find(|row| {
        row.architecture.eq_ignore_ascii_case(architecture) && row.tag.eq_ignore_ascii_case(tag)
    })
}

fn tagged(text: &str, given: &str, given_tag: &str) -> Result<Option<ModelName>, HubError> {
    if given.is_empty() {
        return Ok(None);
    }
    let architecture = pretrained::as_open_clip(given);
    // open_clip's `_clean_tag`.
    let tag = given_tag.replace('-', "_");
    if let Some(row) = find(&architecture, &tag) {
        return Ok(Some(ModelName::Pretrained(row)));
    }
    if let Some(known) = pretrained::architecture(&architecture) {
        let tags = pretrained::tags_of(known);
        if tags.is_empty() {
            let near = near(text, &hints::all_names());
            let hint = format!(
                "open_clip has no weights for {known}{}{LIST}",
                or_else(&near)
            );
            return Err(HubError::UnknownName {
                name: printable(text),
                hint,
            });
        }
        let names: Vec<String> = tags.iter().map(|tag| format!("{known}@{tag}")).collect();
        let near: Vec<String> = near(
            &tag,
            &tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>(),
        )
        .iter()
        .map(|tag| format!("{known}@{tag}"))
        .collect();
        let given = printable(given_tag);
        let hint = if near.is_empty() {
            format!(
                "{known} has no tag `{given}`; it has {}; {LIST}",
                hints::some_of(&names)
            )
        } else {
            format!("{known} has no tag `{given}`{}{LIST}", or_else(&near))
        };
        return Err(HubError::UnknownName {
            name: printable(text),
            hint,
        });
    }
    if let Some(missing) = pretrained::not_built(&architecture) {
        let hint = format!("open_clip's {missing} is not a tower that Couplet builds; {LIST}");
        return Err(HubError::UnknownName {
            name: printable(text),
            hint,
        });
    }
    if is_path(given, given_tag) {
        return Ok(None);
    }
    let names = hints::all_names();
    let near = near(&format!("{architecture}@{tag}"), &names);
    // A text that is far from every name is more likely a file that is missing, such as `user@host.pt`.
    let is_tag = |row: &Pretrained| row.tag.eq_ignore_ascii_case(&tag);
    if near.is_empty()
        && !looks_like_architecture(given)
        && !pretrained::pretrained().iter().any(is_tag)
    {
        return Ok(None);
    }
    let near = if near.is_empty() {
        hints::with_tag(given, &tag)
    } else {
        near
    };
    let problem = format!("open_clip has no architecture `{}`", printable(given));
    Err(HubError::UnknownName {
        name: printable(text),
        hint: format!("{problem}{}{LIST}", or_else(&near)),
    })
}

/// Whether it begins as the names of open_clip's architectures do.
fn looks_like_architecture(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("vit-")
        || text.starts_with("vit_")
        || text.starts_with("xlm-roberta")
        || is_resnet(&text)
}

fn is_resnet(text: &str) -> bool {
    text.strip_prefix("rn")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// `ViT-X/NUMBER` and no more: not a path below a folder called `ViT-B`, such as `ViT-B/weights.pt`.
fn looks_like_openai(text: &str) -> bool {
    text.split_once('/').is_some_and(|(family, patch)| {
        family.len() == 5
            && family.to_ascii_lowercase().starts_with("vit-")
            && !patch.is_empty()
            && patch.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether the text has the signs of a path: a folder in front that is no architecture's, or a file's extension behind.
fn is_path(architecture: &str, tag: &str) -> bool {
    let extensions = [
        ".pt",
        ".pth",
        ".bin",
        ".safetensors",
        ".ckpt",
        ".json",
        ".toml",
    ];
    let tag = tag.to_ascii_lowercase();
    extensions.iter().any(|extension| tag.ends_with(extension))
        || tag.contains(['/', '\\'])
        || architecture.contains('\\')
        || architecture.starts_with(['.', '/', '~'])
        || (architecture.contains('/') && !looks_like_openai(architecture))
}

#[cfg(test)]
mod tests {
    use super::{ModelName, Repository, openai, parse};

    fn named(text: &str) -> String {
        match parse(text) {
            Ok(Some(name)) => name.to_string(),
            Ok(None) => "a path".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_of_the_table_are_read_in_any_case() {
        assert_eq!(named("ViT-B-32@openai"), "ViT-B-32@openai");
        assert_eq!(named("vit-b-32@OpenAI"), "ViT-B-32@openai");
        assert_eq!(
            named("ViT-B/32@laion2b-s34b-b79k"),
            "ViT-B-32@laion2b_s34b_b79k"
        );
        assert_eq!(
            named("xlm-roberta-base-ViT-B-32@laion5b_s13b_b90k"),
            "xlm-roberta-base-ViT-B-32@laion5b_s13b_b90k"
        );
    }

    #[test]
    fn openai_names_are_those_of_its_package() {
        assert_eq!(named("ViT-B/32"), "ViT-B-32@openai");
        assert_eq!(named("vit-l/14@336PX"), "ViT-L-14-336@openai");
        assert_eq!(openai("rn50x4").unwrap().to_string(), "RN50x4@openai");
        assert_eq!(named("RN50"), "a path");
        assert!(
            named("ViT-B/23").contains("did you mean ViT-B/32"),
            "{}",
            named("ViT-B/23")
        );
    }

    #[test]
    fn repositories_are_read() {
        assert_eq!(named("hf:laion/CLIP-ViT-B-32"), "hf:laion/CLIP-ViT-B-32");
        assert_eq!(
            named("hf-hub:timm/ViT-B-16-SigLIP@refs/pr/1"),
            "hf:timm/ViT-B-16-SigLIP@refs/pr/1"
        );
        for bad in [
            "hf:",
            "hf:a/b/c",
            "hf:org/",
            "hf:../x",
            "hf:org/na me",
            "hf:o/n@",
            "hf:o/n@../x",
            "hf:o--p/n",
            "hf:o/n.git",
        ] {
            assert!(named(bad).contains("hf:ORG/NAME"), "{bad}: {}", named(bad));
        }
        assert_eq!(Repository::parse("gpt2").unwrap().id, "gpt2");
    }

    #[test]
    fn misspelt_names_get_the_nearest() {
        let message = named("ViT-B-32@opanai");
        assert!(
            message.contains("ViT-B-32@openai")
                && message.contains("couplet model list --pretrained"),
            "{message}"
        );
        let message = named("ViT-B-23@openai");
        assert!(
            message.contains("did you mean ViT-B-32@openai"),
            "{message}"
        );
        let message = named("vitb32@openai");
        assert!(message.contains("ViT-B-32@openai"), "{message}");
        let message = named("ViT-Z-99@whatever_it_is");
        assert!(message.contains("no architecture `ViT-Z-99`"), "{message}");
        let message = named("ViT-B-16-SigLIP@webly");
        assert!(message.contains("ViT-B-16-SigLIP@webli"), "{message}");
    }

    #[test]
    fn towers_that_couplet_lacks_are_named() {
        let message = named("convnext_base@laion400m_s13b_b51k");
        assert!(
            message.contains("open_clip's convnext_base is not a tower that Couplet builds"),
            "{message}"
        );
        assert!(named("ViT-e-14@laion2b").contains("open_clip has no weights for ViT-e-14"));
    }

    #[test]
    fn everything_else_is_a_path() {
        for path in [
            "ViT-B-32",
            "model.safetensors",
            "runs/a@b",
            "./x@y",
            "weights@v2.pt",
            "/abs@x",
            "user@host",
            "ViT-B/weights.pt",
            "",
        ] {
            assert_eq!(named(path), "a path", "{path}");
        }
        assert!(matches!(parse("runs/latest"), Ok(None)));
        assert!(
            matches!(parse("RN50@cc12m"), Ok(Some(ModelName::Pretrained(row))) if row.tag == "cc12m")
        );
    }

    #[test]
    fn messages_escape_control_characters() {
        assert!(!named("ViT-B-32@\u{1b}[2J").contains('\u{1b}'));
    }
}
