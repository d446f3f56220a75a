//! Small files that are written whole or not at all: tokens, pointers, a kept configuration.
//!
//! A reader sees the old content or the new one, also after a crash. Whether the file was there
//! before makes no difference, and nothing of its old permissions stays. Not for files that are
//! appended to.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Makes `bytes` the content of the file at `path`, with the permissions `mode`. When it returns,
/// the file is on the disk.
///
/// # Errors
/// What the system says; the file is as it was before, or whole.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // The file is the owner's alone until it has its permissions.
    let mut fresh = tempfile::Builder::new()
        .prefix(".fresh-")
        .tempfile_in(directory)?;
    fresh.write_all(bytes)?;
    fresh
        .as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    fresh.as_file().sync_all()?;
    fresh.persist(path)?;
    // The new name is durable only when its directory is.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn a_reader_sees_the_old_content_or_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let contents = [vec![b'a'; 20_000], vec![b'b'; 30_000]];
        replace(&path, 0o600, &contents[0]).unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..50 {
                    replace(&path, 0o600, &contents[turn % 2]).unwrap();
                }
                is_done.store(true, Ordering::SeqCst);
            });
            while !is_done.load(Ordering::SeqCst) {
                let seen = fs::read(&path).unwrap();
                assert!(contents.contains(&seen), "{} bytes", seen.len());
            }
        });
    }

    #[test]
    fn permissions_are_as_wanted_and_what_a_link_leads_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let other = directory.path().join("other");
        fs::write(&other, "other").unwrap();
        symlink(&other, &path).unwrap();
        for mode in [0o644, 0o600] {
            replace(&path, mode, b"text").unwrap();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert!(meta.is_file());
            assert_eq!(meta.mode() & 0o7777, mode);
            assert_eq!(fs::read(&path).unwrap(), b"text");
        }
        assert_eq!(fs::read(&other).unwrap(), b"other");
    }

    #[test]
    fn a_failure_leaves_nothing_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("within"), "").unwrap();
        replace(&path, 0o600, b"text").unwrap_err();
        replace(&directory.path().join("no/file"), 0o600, b"text").unwrap_err();
        let names = fs::read_dir(directory.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }
}
