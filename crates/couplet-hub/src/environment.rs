//! Environment variables as a value, so that nothing here reads or writes those of the process.

use std::path::PathBuf;

/// A function that knows variables.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// Environment variables.
pub struct Environment {
    lookup: Lookup,
}

impl Environment {
    /// The variables that a function knows.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self {
            lookup: Box::new(lookup),
        }
    }

    /// Those of the process. A value that is not Unicode counts as unset.
    pub fn of_process() -> Self {
        Self::new(|variable| std::env::var(variable).ok())
    }

    /// A variable; an empty one counts as unset, as in huggingface_hub.
    pub(crate) fn get(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The first of these variables that is set, with its name.
    pub(crate) fn first<'a>(&self, variables: &[&'a str]) -> Option<(&'a str, String)> {
        variables
            .iter()
            .find_map(|variable| Some((*variable, self.get(variable)?)))
    }

    /// huggingface_hub's `_is_true`.
    pub(crate) fn is_true(&self, variable: &str) -> bool {
        let value = self.get(variable).unwrap_or_default();
        ["1", "ON", "YES", "TRUE"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
    }

    /// A variable that is a path, with `~` and `$VARIABLE` replaced as Python's `expanduser` and `expandvars` do.
    pub(crate) fn path(&self, variable: &str) -> Option<PathBuf> {
        self.get(variable).map(|path| self.expanded(&path))
    }

    /// The user's home, `.` if no variable says.
    pub(crate) fn home(&self) -> PathBuf {
        let home = self.first(&["HOME", "USERPROFILE"]);
        home.map_or_else(|| PathBuf::from("."), |(_, home)| PathBuf::from(home))
    }

    fn expanded(&self, path: &str) -> PathBuf {
        let mut rest = path;
        let mut expanded = String::new();
        if let Some(below) = path.strip_prefix('~')
            && (below.is_empty() || below.starts_with('/'))
        {
            expanded.push_str(&self.home().to_string_lossy());
            rest = below;
        }
        while let Some(start) = rest.find('$') {
            expanded.push_str(&rest[..start]);
            let after = &rest[start + 1..];
            let braced = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            let (name, end) = if let Some((name, _)) = braced {
                (name, name.len() + 2)
            } else {
                let is_name =
                    |character: char| character.is_ascii_alphanumeric() || character == '_';
                let end = after
                    .find(|character| !is_name(character))
                    .unwrap_or(after.len());
                (&after[..end], end)
            };
            match self.get(name) {
                Some(value) if !name.is_empty() => expanded.push_str(&value),
                _ => expanded.push_str(&rest[start..=start + end]),
            }
            rest = &after[end..];
        }
        expanded.push_str(rest);
        PathBuf::from(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;
    use std::path::Path;

    #[test]
    fn paths_are_expanded_as_python_does() {
        let environment = Environment::new(|variable| {
            let value = match variable {
                "HOME" => "/home/me",
                "DISK" => "/disk",
                "A" => "~/cache",
                "B" => "$DISK/x/${HOME}$NONE",
                "C" => "~other/$",
                "EMPTY" => "",
                "YES" => "yes",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert_eq!(environment.path("A").unwrap(), Path::new("/home/me/cache"));
        assert_eq!(
            environment.path("B").unwrap(),
            Path::new("/disk/x//home/me$NONE")
        );
        assert_eq!(environment.path("C").unwrap(), Path::new("~other/$"));
        assert_eq!(environment.get("EMPTY"), None);
        assert!(environment.is_true("YES") && !environment.is_true("DISK"));
    }
}
