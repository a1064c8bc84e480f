//! The right word for a misspelt one.

/// The one of `words` that `word` is most likely a misspelling of: within a third of its
/// letters, and closer than every other. Case does not count, nor do `-` and `_`.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let typed = plain(word);
    let mut found: Vec<(usize, &str)> = words
        .into_iter()
        .map(|right| (strsim::osa_distance(&typed, &plain(right)), right))
        .filter(|(distance, right)| {
            let letters = typed.chars().count().max(right.chars().count());
            *distance <= (letters / 3).max(1) && *distance < letters
        })
        .collect();
    found.sort_by_key(|(distance, _)| *distance);
    match found[..] {
        [(_, only)] => Some(only),
        [(first, right), (second, _), ..] if first < second => Some(right),
        _ => None,
    }
}

/// The words of a list that are most like `word`, the nearest first, at most `count`.
pub(crate) fn ranked<'a>(
    word: &str,
    words: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut ranked: Vec<(f64, &str)> = words
        .into_iter()
        .map(|right| (strsim::jaro_winkler(word, right), right))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.dedup_by_key(|(_, right)| *right);
    ranked.iter().take(count).map(|(_, right)| *right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_has_one_nearest_word() {
        let sources = ["webdataset", "csv", "parquet", "folder", "class-folder"];
        assert_eq!(nearest("webdatset", sources), Some("webdataset"));
        assert_eq!(nearest("class_folder", sources), Some("class-folder"));
        assert_eq!(nearest("Folders", sources), Some("folder"));
        assert_eq!(nearest("tar", sources), None);
        assert_eq!(nearest("momentum", ["lr", "betas", "eps"]), None);
    }

    #[test]
    fn two_words_as_near_as_each_other_are_no_answer() {
        assert_eq!(nearest("bat", ["bar", "baz"]), None);
        assert_eq!(nearest("bar", ["bar", "baz"]), Some("bar"));
    }
}
