//! The names of a dataset's classes.

use std::path::Path;

use super::error::DataError;
use super::lines::read_lines_with_blanks;
use super::list_file::{is_json, read_json_list, split_key};
use crate::error::printable_path;

/// A file of class names in a dataset's folder, one per line, in class order.
pub const CLASS_NAMES_FILE: &str = "classnames.txt";

/// The name of a class as prompts use it, from the name of its folder, label or feature value:
/// underscores become spaces.
pub fn class_name_of(stored: &str) -> String {
    stored.split('_').collect::<Vec<_>>().join(" ")
}

/// The names in a file, in class order: one a line, or of a `.json` file a list, or the list that `FILE#KEY` leads to
/// ([`split_key`]).
///
/// # Errors
/// If the file cannot be read, or a line between others is blank: it would move the classes after it.
pub fn read_class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let (file, key) = split_key(path);
    if is_json(&file) {
        return read_json_list(&file, key.as_deref());
    }
    let names = read_lines_with_blanks(path)?;
    if let Some(at) = names.iter().position(String::is_empty) {
        let message = format!("line {} is blank; every line names a class", at + 1);
        return Err(DataError::invalid(path, message));
    }
    Ok(names)
}

/// As [`read_class_names`], `None` if there is no such file.
pub(crate) fn read_class_names_if_present(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    path.is_file().then(|| read_class_names(path)).transpose()
}

/// The names of a dataset's classes, in class order: `given` ones, else the lines of
/// `classnames.txt` in its folder, else `stored` ones. If the chosen names are the stored names in
/// another order, they are reordered to match, because labels count in the storage's order.
/// - stored: the storage's own names ([`class_name_of`]), in class order.
/// - returns `None` if the classes have no names.
///
/// # Errors
/// If `classnames.txt` cannot be read.
pub fn class_names(
    given: Option<Vec<String>>,
    folder: Option<&Path>,
    stored: Option<&[String]>,
) -> Result<Option<Vec<String>>, DataError> {
    let listed = match (given, folder) {
        (Some(given), _) => Some(given),
        (None, Some(folder)) => read_class_names_if_present(&folder.join(CLASS_NAMES_FILE))?,
        (None, None) => None,
    };
    // In two steps: rustc 1.95 miscompiled one match over both options (compare rust-lang/rust#159035).
    let Some(listed) = listed else {
        return Ok(stored.map(<[String]>::to_vec));
    };
    let ordered = stored.and_then(|stored| in_stored_order(&listed, stored));
    Ok(Some(ordered.unwrap_or(listed)))
}

/// The warning about classes that are named by WordNet ids; `None` if none is.
/// - place: the dataset's folder or file; names: those that are used, in class order.
pub fn wordnet_warning(place: &Path, names: &[String]) -> Option<String> {
    let is_id = |name: &&String| {
        let digits = name.strip_prefix('n').unwrap_or_default();
        digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let ids: Vec<&String> = names.iter().filter(is_id).collect();
    let first = ids.first()?;
    Some(format!(
        "{}: {} of {} classes are named by WordNet ids such as `{first}`, which mean nothing to a text \
         tower; list the classes' names, one per line in class order, in {CLASS_NAMES_FILE} in the \
         dataset's folder, or for evaluation as `class_names` in the dataset's file",
        printable_path(place),
        ids.len(),
        names.len()
    ))
}

/// The listed names in the order of the stored ones; `None` unless both hold the same names.
fn in_stored_order(listed: &[String], stored: &[String]) -> Option<Vec<String>> {
    if listed.len() != stored.len() {
        return None;
    }
    let words: Vec<String> = listed.iter().map(|name| class_name_of(name)).collect();
    let find = |name: &String| words.iter().position(|word| *word == class_name_of(name));
    let places: Vec<usize> = stored.iter().map(find).collect::<Option<_>>()?;
    let mut each_once = places.clone();
    each_once.sort_unstable();
    if !each_once.into_iter().eq(0..listed.len()) {
        return None;
    }
    Some(places.into_iter().map(|at| listed[at].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn given_names_override_the_file_and_the_file_overrides_the_storage() {
        let folder = tempfile::tempdir().unwrap();
        let stored = names(&["big cat", "dog"]);
        let read = |given: Option<Vec<String>>| {
            class_names(given, Some(folder.path()), Some(&stored))
                .unwrap()
                .unwrap()
        };
        assert_eq!(read(None), stored);
        std::fs::write(
            folder.path().join(CLASS_NAMES_FILE),
            "\u{feff}tiger\nhound\n\n",
        )
        .unwrap();
        assert_eq!(read(None), ["tiger", "hound"]);
        assert_eq!(read(Some(names(&["a", "b"]))), ["a", "b"]);
        assert_eq!(class_names(None, None, None).unwrap(), None);
    }

    #[test]
    fn stored_names_given_in_another_order_are_matched_by_name() {
        let stored = names(&["big cat", "dog"]);
        let given = |given: &[&str]| class_names(Some(names(given)), None, Some(&stored)).unwrap();
        assert_eq!(given(&["dog", "big_cat"]).unwrap(), ["big_cat", "dog"]);
        assert_eq!(given(&["dog", "tiger"]).unwrap(), ["dog", "tiger"]);
    }

    #[test]
    fn wordnet_ids_get_a_warning_that_says_what_to_give() {
        let warning = |given: &[&str]| wordnet_warning(Path::new("data"), &names(given));
        let warned = warning(&["n01440764", "n01443537", "cat"]).unwrap();
        assert!(warned.starts_with("data: 2 of 3 classes"), "{warned}");
        assert!(warned.contains("`n01440764`") && warned.contains("class_names"));
        assert_eq!(warning(&["tench", "n1", "n0144076x", "01440764"]), None);
    }

    #[test]
    fn repeated_names_are_not_matched_by_name() {
        let stored = names(&["crane", "dog", "crane"]);
        let given = names(&["crane bird", "dog", "crane"]);
        let found = class_names(Some(given.clone()), None, Some(&stored)).unwrap();
        assert_eq!(found.unwrap(), given);
    }

    #[test]
    fn a_blank_line_between_names_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CLASS_NAMES_FILE);
        std::fs::write(&path, "cat\n\ndog\n").unwrap();
        let error = class_names(None, Some(folder.path()), None).unwrap_err();
        assert!(error.to_string().contains("line 2 is blank"), "{error}");
    }
}
