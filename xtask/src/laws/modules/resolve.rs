//! Where a path leads: through modules, imports and re-exports to the file that defines the item.

use super::tree::{Import, Tree};

/// Re-exports of re-exports; the limit ends globs that import each other.
const MAX_DEPTH: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Module(usize),
    /// An item, or something of it, that this module defines.
    Item(usize, &'a str),
}

impl Found<'_> {
    pub(super) fn module(self) -> usize {
        match self {
            Self::Module(module) | Self::Item(module, _) => module,
        }
    }
}

impl Tree {
    /// Where a path that is written in `module` leads; `None` for other crates, local
    /// variables and whatever else is not this crate's.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Option<Found<'_>> {
        self.resolve_within(module, path, MAX_DEPTH)
    }

    /// The module that a path's `crate`, `self` and `super` name, and what is left of the path.
    pub(super) fn start<'a>(
        &self,
        mut module: usize,
        mut path: &'a [String],
    ) -> Option<(usize, &'a [String])> {
        while let Some((first, rest)) = path.split_first() {
            match first.as_str() {
                "crate" => module = 0,
                "self" => {}
                "super" => module = self.modules[module].parent?,
                _ => break,
            }
            path = rest;
        }
        Some((module, path))
    }

    fn resolve_within(&self, module: usize, path: &[String], depth: usize) -> Option<Found<'_>> {
        let (module, path) = self.start(module, path)?;
        let mut found = Found::Module(module);
        for (at, name) in path.iter().enumerate() {
            let Found::Module(module) = found else { break };
            found = self.lookup(module, name, at + 1 < path.len(), depth)?;
        }
        Some(found)
    }

    /// A module and an item may share a name; `is_prefix` says that more of the path follows.
    fn lookup(&self, at: usize, name: &str, is_prefix: bool, depth: usize) -> Option<Found<'_>> {
        let depth = depth.checked_sub(1)?;
        let module = &self.modules[at];
        let child = module.children.get(name).map(|child| Found::Module(*child));
        let item = module.items.get(name).map(|name| Found::Item(at, name));
        let own = if is_prefix {
            child.or(item)
        } else {
            item.or(child)
        };
        if own.is_some() {
            return own;
        }
        let named = |import: &&Import| import.name.as_deref() == Some(name);
        // `use name::X` binds no `name`, and `use name;` is another crate.
        let mut imports = module.imports.iter().filter(named);
        let import = imports.find_map(|import| match import.path.as_slice() {
            [only] if only == name => None,
            path => self.resolve_within(at, path, depth),
        });
        import.or_else(|| {
            let mut globs = module.imports.iter().filter(|import| import.name.is_none());
            globs.find_map(|glob| match glob.path.first()?.as_str() {
                first if first == name => None,
                _ => match self.resolve_within(at, &glob.path, depth)? {
                    Found::Module(from) => self.lookup(from, name, is_prefix, depth),
                    Found::Item(..) => None,
                },
            })
        })
    }
}
