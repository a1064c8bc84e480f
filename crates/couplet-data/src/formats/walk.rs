//! The files in a folder and its subfolders.

use std::collections::HashSet;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::hidden::is_hidden;

/// All files in a folder and its subfolders, without hidden ones: folder by folder in the order of
/// their paths, each folder's files by name. A symbolic link to a folder is followed if that folder is
/// not in this one anyway, and no folder is entered twice. Source: torchvision's `make_dataset`, which
/// finds hidden files too, and files once for each link.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let root = fs::canonicalize(folder)?;
    let mut walk = Walk {
        entered: HashSet::from([root.clone()]),
        root,
        found: Vec::new(),
    };
    walk.visit(folder)?;
    let mut found = walk.found;
    found.sort_by(|(a, _), (b, _)| {
        let [a, b] = [a, b].map(|folder: &PathBuf| folder.as_os_str().as_encoded_bytes());
        a.cmp(b)
    });
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}

/// A folder's entries sorted by name, without hidden ones.
pub(crate) fn visible_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = entries_of(folder)?;
    Ok(entries.into_iter().map(|(path, _)| path).collect())
}

/// As [`visible_entries`], with what they are without following links: asking the file system for each
/// file takes long.
fn entries_of(folder: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_hidden(&entry.file_name()) {
            entries.push((entry.path(), entry.file_type()?));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

struct Walk {
    /// Without symbolic links in its path.
    root: PathBuf,
    /// The folders that were entered, as above.
    entered: HashSet<PathBuf>,
    found: Vec<(PathBuf, Vec<PathBuf>)>,
}

impl Walk {
    fn visit(&mut self, folder: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for (path, kind) in entries_of(folder)? {
            // A link to nothing counts as a file: reading it reports what is wrong.
            let is_folder = kind.is_dir() || kind.is_symlink() && path.is_dir();
            if !is_folder {
                files.push(path);
                continue;
            }
            let target = fs::canonicalize(&path)?;
            let is_in_root = kind.is_symlink() && target.starts_with(&self.root);
            if !is_in_root && self.entered.insert(target) {
                self.visit(&path)?;
            }
        }
        self.found.push((folder.to_path_buf(), files));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_the_order_of_image_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        // The order of `sorted(os.walk(root))`, as in `ImageFolder`, without the hidden ones.
        let wanted = ["z.jpg", "a/1.jpg", "a-b/1.jpg", "a/b/0.jpg", "a/b/c/2.jpg"];
        for file in wanted
            .iter()
            .chain(&[".x/1.jpg", "a/._1.jpg", "@eaDir/1.jpg"])
        {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let found = files_below(root).unwrap();
        assert_eq!(found, wanted.map(|file| root.join(file)));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        for (folder, other) in [(&a, &b), (&b, &a)] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("1.jpg"), b"").unwrap();
            symlink(other, folder.join("other")).unwrap();
            symlink(folder, folder.join("self")).unwrap();
        }
        symlink("nowhere", a.join("2.jpg")).unwrap();
        let wanted = ["1.jpg", "2.jpg", "other/1.jpg"];
        assert_eq!(files_below(&a).unwrap(), wanted.map(|file| a.join(file)));
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_link_to_each_other_are_read_once() {
        use std::os::unix::fs::symlink;
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        fs::write(outside.path().join("o.jpg"), b"").unwrap();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        for name in names {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("1.jpg"), b"").unwrap();
        }
        for name in names {
            for other in names {
                symlink(
                    root.join(other),
                    root.join(name).join(format!("to-{other}")),
                )
                .unwrap();
            }
            symlink(outside.path(), root.join(name).join("outside")).unwrap();
        }
        let found = files_below(root).unwrap();
        assert_eq!(found.len(), names.len() + 1);
        assert!(found.contains(&root.join("a/outside/o.jpg")));
    }
}
