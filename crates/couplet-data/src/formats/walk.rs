//! The files in a folder and its subfolders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hidden::is_hidden;

/// All files in a folder and its subfolders, without hidden ones: folder by folder in the order of
/// their paths, each folder's files by name. Symbolic links are followed, but not to a folder that
/// contains them. Source: torchvision's `make_dataset`, which finds hidden files too.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    visit(folder, &mut vec![fs::canonicalize(folder)?], &mut found)?;
    found.sort_by(|(a, _), (b, _)| {
        let [a, b] = [a, b].map(|folder: &PathBuf| folder.as_os_str().as_encoded_bytes());
        a.cmp(b)
    });
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}

/// A folder's entries sorted by name, without hidden ones.
pub(crate) fn visible_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| !path.file_name().is_some_and(is_hidden));
    paths.sort();
    Ok(paths)
}

/// - trail: the folders that were entered on the way, without symbolic links in their paths.
fn visit(
    folder: &Path,
    trail: &mut Vec<PathBuf>,
    found: &mut Vec<(PathBuf, Vec<PathBuf>)>,
) -> io::Result<()> {
    let mut files = Vec::new();
    for path in visible_entries(folder)? {
        // A link to nothing counts as a file: reading it reports what is wrong.
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        let target = fs::canonicalize(&path)?;
        if trail.contains(&target) {
            continue;
        }
        trail.push(target);
        visit(&path, trail, found)?;
        trail.pop();
    }
    found.push((folder.to_path_buf(), files));
    Ok(())
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
}
