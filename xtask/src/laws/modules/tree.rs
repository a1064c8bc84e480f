//! A crate's modules as its files declare them: what each defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// Reads a source file, `None` where there is none.
pub(super) type Reader<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The first module is the crate's root.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
}

#[derive(Default)]
pub(super) struct Module {
    /// An inline module is part of its parent's file.
    pub(super) file: PathBuf,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// Names that are defined here, modules aside.
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// Paths in code, as they are written.
    pub(super) paths: BTreeSet<Vec<String>>,
}

pub(super) struct Import {
    /// What the import is called here; `None` for a glob.
    pub(super) name: Option<String>,
    pub(super) path: Vec<String>,
    /// Others may import it from here.
    pub(super) is_visible: bool,
}

impl Tree {
    /// Follows the `mod` declarations from the crate's root file.
    ///
    /// # Errors
    /// A file that is missing or does not parse.
    pub(super) fn read(root: &Path, reader: Reader) -> Result<Self, String> {
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        tree.read_file(None, root.to_owned(), &folder, reader)?;
        Ok(tree)
    }

    /// `folder` is where the file's own children are.
    fn read_file(
        &mut self,
        parent: Option<usize>,
        file: PathBuf,
        folder: &Path,
        reader: Reader,
    ) -> Result<usize, String> {
        let text = reader(&file).ok_or_else(|| format!("{}: missing", file.display()))?;
        let parsed =
            syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        self.read_items(parent, file, folder, &parsed.items, reader)
    }

    fn read_items(
        &mut self,
        parent: Option<usize>,
        file: PathBuf,
        folder: &Path,
        items: &[Item],
        reader: Reader,
    ) -> Result<usize, String> {
        let at = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            ..Module::default()
        });
        for item in items {
            let Item::Mod(module) = item else {
                self.modules[at].visit_item(item);
                continue;
            };
            if is_test(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            let inside = folder.join(&name);
            let child = if let Some((_, items)) = &module.content {
                let file = self.modules[at].file.clone();
                self.read_items(Some(at), file, &inside, items, reader)?
            } else {
                let flat = folder.join(format!("{name}.rs"));
                let is_flat = reader(&flat).is_some();
                let file = if is_flat { flat } else { inside.join("mod.rs") };
                self.read_file(Some(at), file, &inside, reader)?
            };
            self.modules[at].children.insert(name, child);
        }
        Ok(at)
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, is_visible: bool) {
        let name = match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                return self.import(&step.tree, path, is_visible);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path.clone(), is_visible);
                }
                return;
            }
            UseTree::Glob(_) => None,
            UseTree::Name(leaf) => {
                if leaf.ident != "self" {
                    path.push(leaf.ident.to_string());
                }
                path.last().cloned()
            }
            UseTree::Rename(leaf) => {
                if leaf.ident != "self" {
                    path.push(leaf.ident.to_string());
                }
                Some(leaf.rename.to_string())
            }
        };
        self.imports.push(Import {
            name,
            path,
            is_visible,
        });
    }

    /// Macros' arguments do not parse; whatever looks like a path in them is taken for one.
    fn name_paths(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut before = ' ';
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if before != ':' {
                        self.paths.insert(std::mem::take(&mut path));
                    }
                    if before != '.' {
                        path.push(ident.to_string());
                    }
                    before = ' ';
                }
                TokenTree::Punct(punct) => before = punct.as_char(),
                TokenTree::Group(group) => {
                    self.name_paths(group.stream());
                    before = ' ';
                }
                TokenTree::Literal(_) => before = ' ',
            }
        }
        self.paths.insert(path);
    }
}

impl Visit<'_> for Module {
    fn visit_item(&mut self, item: &Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            _ => return,
        };
        if is_test(attributes) {
            return;
        }
        if let Some(name) = name {
            self.items.insert(name.to_string());
        }
        if let Item::Use(item) = item {
            let is_visible = !matches!(item.vis, Visibility::Inherited);
            if item.leading_colon.is_none() {
                self.import(&item.tree, Vec::new(), is_visible);
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|step| step.ident.to_string());
            self.paths.insert(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &syn::Macro) {
        self.name_paths(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, _: &Attribute) {}

    fn visit_visibility(&mut self, _: &Visibility) {}
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}
