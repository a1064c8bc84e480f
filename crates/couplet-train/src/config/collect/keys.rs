//! Keys by their paths, and what is known of them.

/// What is known of a table before it is checked.
#[derive(Default)]
pub(in super::super) struct Known<'a> {
    /// Keys that were misspelt, by their right names.
    pub renamed: &'a [String],
    /// A table of which any key may be missing.
    pub partial: Option<&'a str>,
}

/// The path of a key in the table at `path`.
pub(in super::super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_string()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether `key` is `table` or is in it.
pub(in super::super) fn is_within(key: &str, table: &str) -> bool {
    key.strip_prefix(table)
        .is_some_and(|rest| rest.is_empty() || table.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether two paths differ in nothing but the places of lists' entries.
pub(super) fn is_same_key(one: &str, other: &str) -> bool {
    let names = |path: &str| -> String {
        let parts = path.split(['[', ']']).enumerate();
        let parts = parts.filter(|(at, _)| at % 2 == 0);
        parts.map(|(_, part)| part).collect()
    };
    names(one) == names(other)
}
