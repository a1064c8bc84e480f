//! Links of the Markdown pages: every file and heading that one names exists.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::workspace::{repository, root, tracked_files};

/// Pages of the guide may not point out of it by a relative path: the built book has nothing there.
const GUIDE: &str = "docs";
/// The guide's table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// What a page links to, and the headings that can be linked to.
#[derive(Default)]
struct Page {
    links: Vec<String>,
    headings: Vec<String>,
}

/// Every broken link of a page that git tracks, in words.
pub(super) fn check() -> Result<Vec<String>, String> {
    let repository = repository()?;
    let mut files = tracked_files("*.md")?;
    // A page of a package that is a link to another one is checked where it is.
    files.retain(|file| !root().join(file).is_symlink());
    let pages: HashMap<PathBuf, Page> = files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
            (file, read(&text))
        })
        .collect();
    let mut broken = Vec::new();
    for (file, page) in &pages {
        for link in &page.links {
            if let Some(problem) = problem(file, link, &repository, &pages) {
                broken.push(format!("{}: {link}: {problem}", file.display()));
            }
        }
    }
    let listed = pages
        .get(Path::new(SUMMARY))
        .map_or(&[][..], |page| &page.links);
    for file in pages.keys().filter(|file| file.starts_with(GUIDE)) {
        let name = file.strip_prefix(GUIDE).unwrap_or(file).to_string_lossy();
        if file != Path::new(SUMMARY) && !listed.iter().any(|link| *link == name) {
            broken.push(format!("{}: not in {SUMMARY}", file.display()));
        }
    }
    broken.sort();
    Ok(broken)
}

fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                page.headings.push(anchor);
            }
            _ => {}
        }
    }
    page
}

/// The name by which GitHub and mdBook link to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn problem(
    file: &Path,
    link: &str,
    repository: &str,
    pages: &HashMap<PathBuf, Page>,
) -> Option<String> {
    let (link, anchor) = link
        .split_once('#')
        .map_or((link, None), |(link, anchor)| (link, Some(anchor)));
    let own = link.strip_prefix(repository).and_then(|rest| {
        let path = rest
            .strip_prefix("/blob/main/")
            .or_else(|| rest.strip_prefix("/tree/main/"));
        path.map(PathBuf::from)
    });
    let target = match own {
        Some(path) => path,
        // Others' pages cannot be checked without a network.
        None if link.contains("://") || link.starts_with("mailto:") => return None,
        None if link.is_empty() => file.to_path_buf(),
        None => {
            let target = normal(&file.parent().unwrap_or(Path::new("")).join(link))?;
            if file.starts_with(GUIDE) && !target.starts_with(GUIDE) {
                return Some(format!(
                    "leads out of the guide; write {repository}/blob/main/…"
                ));
            }
            target
        }
    };
    if !pages.contains_key(&target) && !root().join(&target).exists() {
        return Some("no such file".to_string());
    }
    let anchor = anchor?;
    let found = pages
        .get(&target)?
        .headings
        .iter()
        .any(|heading| heading == anchor);
    (!found).then(|| format!("no heading `{anchor}`"))
}

/// A path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop().then_some(())?;
            }
            part => out.push(part),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_are_found() {
        let text = "# A `b` heading\n[x](other.md) [y](#a-b-heading) [z](#none) [w](../README.md)";
        let page = read(text);
        assert_eq!(page.headings, ["a-b-heading"]);
        let file = PathBuf::from("docs/page.md");
        let links = page.links.clone();
        let pages = HashMap::from([(file.clone(), page)]);
        let found = links
            .iter()
            .map(|link| problem(&file, link, "https://here", &pages));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                Some("no such file".into()),
                None,
                Some("no heading `none`".into()),
                Some("leads out of the guide; write https://here/blob/main/…".into()),
            ]
        );
    }

    #[test]
    fn links_to_the_own_repository_are_checked_as_files() {
        let check = |link: &str| problem(Path::new("a.md"), link, "https://here", &HashMap::new());
        assert_eq!(check("https://here/blob/main/Cargo.toml"), None);
        assert!(check("https://here/blob/main/no-such-file").is_some());
        assert_eq!(check("https://elsewhere/no-such-file"), None);
    }
}
