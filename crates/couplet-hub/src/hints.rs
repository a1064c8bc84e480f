//! What a text that is no name was probably meant to be.

use crate::error::{HubError, printable};
use crate::pretrained::{self, Pretrained};

/// The command that lists all names, for messages.
pub(crate) const LIST: &str = "`couplet model list --pretrained` lists all names";

/// How many near names a message has.
const SUGGESTIONS: usize = 3;

/// An architecture's tags are all named up to this many.
const ALL_TAGS: usize = 6;

/// What to say of a text that names neither a file nor weights: the tags of an architecture, the nearest architecture, or that a
/// repository of the hub needs `hf:` in front. `None` if nothing comes to mind.
pub fn hint(text: &str) -> Option<String> {
    if let Some(known) = pretrained::architecture(text) {
        let tags = pretrained::tags_of(known);
        if tags.is_empty() {
            return Some(format!(
                "{known} is an architecture that open_clip has no weights for; {LIST}"
            ));
        }
        let names: Vec<String> = tags.iter().map(|tag| format!("{known}@{tag}")).collect();
        let shown = some_of(&names);
        return Some(format!(
            "{known} is an architecture; weights of it are {shown}; {LIST}"
        ));
    }
    if let Some(missing) = pretrained::not_built(text) {
        return Some(format!(
            "open_clip's {missing} is not a tower that Couplet builds; {LIST}"
        ));
    }
    // open_clip prints its own pairs with a colon, and as Python's tuples.
    for separator in [':', ',', ' ', '/'] {
        if let Some((architecture, tag)) = text.split_once(separator)
            && let Some(known) = pretrained::architecture(architecture)
        {
            let meant = format!("{known}@{}", tag.trim().replace('-', "_"));
            let near = near(&meant, &all_names());
            return (!near.is_empty())
                .then(|| format!("did you mean {}? {LIST}", near.join(" or ")));
        }
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if let Some((organization, name)) = text.split_once('/')
        && [organization, name]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(is_allowed))
        && !organization.starts_with('.')
    {
        return Some(format!(
            "a repository of the Hugging Face Hub is written `hf:{text}`"
        ));
    }
    let architectures: Vec<String> = pretrained::architectures().map(str::to_owned).collect();
    let near = near(text, &architectures);
    (!near.is_empty() && !text.contains('/'))
        .then(|| format!("did you mean {}? {LIST}", near.join(" or ")))
}

/// Some of these names, and how many there are if that is not all.
pub(crate) fn some_of(names: &[String]) -> String {
    if names.len() <= ALL_TAGS {
        return names.join(", ");
    }
    format!(
        "{} ({} in all)",
        names[..SUGGESTIONS].join(", "),
        names.len()
    )
}

/// Names with this tag whose architecture has the given text in it, and others with this tag if there are none.
pub(crate) fn with_tag(given: &str, tag: &str) -> Vec<String> {
    let given = given.to_ascii_lowercase();
    let tagged = || {
        pretrained::pretrained()
            .iter()
            .filter(|row| row.tag.eq_ignore_ascii_case(tag))
    };
    let mut found: Vec<&Pretrained> = tagged()
        .filter(|row| row.architecture.to_ascii_lowercase().contains(&given))
        .collect();
    if found.is_empty() {
        found = tagged().collect();
    }
    found
        .into_iter()
        .take(SUGGESTIONS)
        .map(Pretrained::name)
        .collect()
}

/// The names of the table.
pub(crate) fn all_names() -> Vec<String> {
    pretrained::pretrained()
        .iter()
        .map(Pretrained::name)
        .collect()
}

/// The error of an unknown name, with the nearest of these.
pub(crate) fn unknown(text: &str, problem: &str, candidates: &[String]) -> HubError {
    let near = near(text, candidates);
    HubError::UnknownName {
        name: printable(text),
        hint: format!("{problem}{}{LIST}", or_else(&near)),
    }
}

/// What stands between a problem and [`LIST`]: a question with the nearest names, if there are any.
pub(crate) fn or_else(near: &[String]) -> String {
    if near.is_empty() {
        "; ".to_owned()
    } else {
        format!("; did you mean {}? ", near.join(" or "))
    }
}

/// The candidates that are nearest by edits, best first: at most [`SUGGESTIONS`], and none that is far off. One that begins with
/// the text counts as near.
pub(crate) fn near(text: &str, candidates: &[String]) -> Vec<String> {
    let text = text.to_ascii_lowercase();
    let mut scored: Vec<(usize, &String)> = candidates
        .iter()
        .map(|candidate| {
            let lower = candidate.to_ascii_lowercase();
            let is_beginning = text.len() >= 4 && lower.starts_with(&text);
            let distance = if is_beginning {
                1
            } else {
                strsim::damerau_levenshtein(&text, &lower)
            };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance * 5 <= candidate.len() * 2)
        .collect();
    scored.sort_by_key(|(distance, _)| *distance);
    scored.dedup_by(|one, other| one.1 == other.1);
    scored
        .into_iter()
        .take(SUGGESTIONS)
        .map(|(_, name)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn texts_that_are_no_names_get_a_hint() {
        for (text, expected) in [
            (
                "ViT-B-32",
                "weights of it are ViT-B-32@openai, ViT-B-32@laion400m_e31",
            ),
            ("vit-b-32", "(22 in all)"),
            ("ViT-L-14-336", "weights of it are ViT-L-14-336@openai; "),
            ("ViT-e-14", "no weights for"),
            ("coca_ViT-B-32", "not a tower that Couplet builds"),
            ("ViT-B-32:openai", "did you mean ViT-B-32@openai"),
            ("ViT-B-32/laion2b_s34b_b79", "ViT-B-32@laion2b_s34b_b79k"),
            (
                "openai/clip-vit-base-patch32",
                "`hf:openai/clip-vit-base-patch32`",
            ),
            ("ViT-B-23", "did you mean ViT-B-32"),
        ] {
            let hint = hint(text).unwrap();
            assert!(hint.contains(expected), "{text}: {hint}");
        }
        for text in [
            "model.safetensors",
            "/runs/latest",
            "./org/name",
            "a/b/c",
            "",
        ] {
            assert_eq!(hint(text), None, "{text}");
        }
    }
}
