//! Modules import downwards: no circle between a crate's files, and nothing from the crate's
//! root that a module of it defines.

mod resolve;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use resolve::Found;
use tree::{Import, Reader, Tree};

/// The names that a file imports from another, which defines them.
type Edges<'a> = BTreeMap<(&'a Path, &'a Path), BTreeSet<&'a str>>;

/// The broken laws of the crate whose root is `root`.
pub(super) fn check(name: &str, root: &Path) -> Vec<String> {
    let folder = root.parent().unwrap_or(root);
    check_files(name, folder, root, &|path| {
        std::fs::read_to_string(path).ok()
    })
}

fn check_files(name: &str, folder: &Path, root: &Path, reader: Reader) -> Vec<String> {
    let tree = match Tree::read(root, reader) {
        Ok(tree) => tree,
        Err(problem) => return vec![problem],
    };
    let shown = |file: &Path| file.strip_prefix(folder).unwrap_or(file).to_owned();
    let edges = edges(&tree);
    let mut broken: Vec<_> = circles(&edges)
        .into_iter()
        .map(|circle| describe(name, &circle, &edges, &shown))
        .collect();
    for (file, path) in root_imports(&tree) {
        let file = shown(file).display().to_string();
        broken.push(format!(
            "{name}: {file}: `{path}` is imported from the crate's root; name the module that defines it"
        ));
    }
    broken
}

fn describe(
    name: &str,
    circle: &BTreeSet<&Path>,
    edges: &Edges,
    shown: &dyn Fn(&Path) -> PathBuf,
) -> String {
    let mut text = format!("{name}: a circle of {} files", circle.len());
    for ((from, to), names) in edges {
        if circle.contains(from) && circle.contains(to) {
            let names: Vec<_> = names.iter().copied().collect();
            text += &format!(
                "\n    {} uses {} ({})",
                shown(from).display(),
                shown(to).display(),
                names.join(", ")
            );
        }
    }
    text
}

fn edges(tree: &Tree) -> Edges<'_> {
    let mut edges = Edges::new();
    for (at, module) in tree.modules.iter().enumerate() {
        let imports = module.imports.iter();
        let imports = imports
            .filter(|import| !is_reexport(tree, at, import))
            .map(|import| (&import.path, import.name.is_none()));
        let paths = module.paths.iter().map(|path| (path, false));
        for (path, is_glob) in imports.chain(paths) {
            let (target, name) = match tree.resolve(at, path) {
                Some(Found::Item(target, name)) => (target, name),
                Some(Found::Module(target)) if is_glob => (target, "*"),
                _ => continue,
            };
            let (from, to) = (&*module.file, &*tree.modules[target].file);
            if from != to {
                edges.entry((from, to)).or_default().insert(name);
            }
        }
    }
    edges
}

/// A module that hands on what is defined below it.
fn is_reexport(tree: &Tree, at: usize, import: &Import) -> bool {
    let target = tree.resolve(at, &import.path).map(Found::module);
    let mut above = std::iter::successors(target, |module| tree.modules[*module].parent);
    import.is_visible && above.any(|module| module == at)
}

/// The strongly connected components of more than one file.
fn circles<'a>(edges: &Edges<'a>) -> Vec<BTreeSet<&'a Path>> {
    let files: BTreeSet<_> = edges.keys().map(|(from, _)| *from).collect();
    let reached: BTreeMap<_, _> = files
        .iter()
        .map(|file| (*file, reach(edges, file)))
        .collect();
    let mut circles = BTreeSet::new();
    for file in &files {
        let returns = |other: &&&Path| reached.get(**other).is_some_and(|r| r.contains(file));
        let circle: BTreeSet<_> = reached[file].iter().filter(returns).copied().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reach<'a>(edges: &Edges<'a>, from: &Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for (_, to) in edges.keys().filter(|(start, _)| *start == file) {
            if reached.insert(*to) {
                open.push(to);
            }
        }
    }
    reached
}

/// Paths of modules that lead through a re-export of the crate's root.
fn root_imports(tree: &Tree) -> BTreeSet<(&Path, String)> {
    let root = &tree.modules[0];
    let mut found = BTreeSet::new();
    for (at, module) in tree.modules.iter().enumerate().skip(1) {
        let imports = module.imports.iter().map(|import| &import.path);
        for path in imports.chain(&module.paths) {
            let Some((0, [name, ..])) = tree.start(at, path) else {
                continue;
            };
            let is_own = root.children.contains_key(name) || root.items.contains(name);
            if !is_own && tree.resolve(at, path).is_some() {
                found.insert((&*module.file, path.join("::")));
            }
        }
    }
    found
}
