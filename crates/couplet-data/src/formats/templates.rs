//! Prompt templates with a placeholder for the class name.

use std::path::Path;

use super::error::DataError;
use super::lines::read_lines;
use super::list_file::{is_json, read_json_list, split_key};

/// Placeholders for the class name: those of open_clip and CLIP_benchmark.
const PLACEHOLDERS: [&str; 2] = ["{}", "{c}"];
/// The template of a dataset without templates. Source: Radford et al. 2021, section 3.1.4.
pub const DEFAULT_TEMPLATE: &str = "a photo of a {}.";

/// The templates in a file: one a line, or of a `.json` file a list, or the list that `FILE#KEY` leads to
/// ([`split_key`]).
///
/// # Errors
/// If the file cannot be read or holds no list.
pub fn read_templates(path: &Path) -> Result<Vec<String>, DataError> {
    let (file, key) = split_key(path);
    if is_json(&file) {
        return read_json_list(&file, key.as_deref());
    }
    read_lines(path)
}

/// Fills a class name into a template, at every `{}` and `{c}`. A placeholder that is part of the
/// name is kept as it is.
pub fn fill_template(template: &str, name: &str) -> String {
    let mut sentence = String::with_capacity(template.len() + name.len());
    let mut rest = template;
    while let Some((at, placeholder)) = first_placeholder(rest) {
        sentence.push_str(&rest[..at]);
        sentence.push_str(name);
        rest = &rest[at + placeholder.len()..];
    }
    sentence.push_str(rest);
    sentence
}

fn first_placeholder(text: &str) -> Option<(usize, &'static str)> {
    let found = PLACEHOLDERS.iter().filter_map(|one| {
        let at = text.find(one)?;
        Some((at, *one))
    });
    found.min_by_key(|(at, _)| *at)
}

/// The first problem with a list of templates, if there is one.
pub fn template_problem(templates: &[String]) -> Option<String> {
    if templates.is_empty() {
        return Some("the list is empty".into());
    }
    let template = (templates.iter()).find(|template| first_placeholder(template).is_none())?;
    Some(format!(
        "`{template}` has no placeholder for the class name; write {{}} or {{c}} where it goes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_placeholders_are_filled_once_in_either_order() {
        assert_eq!(fill_template("a {} or a {c}.", "cat"), "a cat or a cat.");
        assert_eq!(fill_template("a {c} or a {}.", "cat"), "a cat or a cat.");
        // Names are never filled again, even if they look like a placeholder.
        for template in ["the {}", "the {c}"] {
            assert_eq!(fill_template(template, "set {}"), "the set {}");
            assert_eq!(fill_template(template, "set {c}"), "the set {c}");
        }
        assert_eq!(fill_template("none", "cat"), "none");
    }

    #[test]
    fn a_template_without_a_placeholder_is_named() {
        let problem = |templates: &[&str]| {
            let templates: Vec<String> = templates.iter().map(ToString::to_string).collect();
            template_problem(&templates)
        };
        assert_eq!(problem(&["a {}", "{c}"]), None);
        assert!(problem(&["a {}", "a {d}"]).unwrap().starts_with("`a {d}`"));
        assert!(problem(&[]).unwrap().contains("empty"));
    }
}
