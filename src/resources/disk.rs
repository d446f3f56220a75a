//! How much space a sandbox takes: a walk that costs little.
//!
//! Blocks are counted, not lengths; a file with several names counts once; links are not followed
//! and other file systems not entered.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What a walk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// How long the walk took.
    pub took: Duration,
}

/// Walks `top`. What vanishes or cannot be read during the walk is left out.
pub fn disk_usage(top: &Path) -> DiskUsage {
    let began = Instant::now();
    let mut bytes = 0;
    let mut seen = HashSet::new();
    let mut queue: Vec<PathBuf> = vec![top.to_path_buf()];
    let device = fs::symlink_metadata(top)
        .map(|meta| meta.dev())
        .unwrap_or_default();
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != device
                || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino()))
            {
                continue;
            }
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                queue.push(entry.path());
            }
        }
    }
    DiskUsage {
        bytes,
        took: began.elapsed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_count_once_and_links_are_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path();
        fs::create_dir(path.join("below")).unwrap();
        fs::write(path.join("below/file"), vec![7; 1 << 20]).unwrap();
        fs::hard_link(path.join("below/file"), path.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("link")).unwrap();
        let found = disk_usage(path).bytes;
        assert!((1 << 20..(1 << 20) + 65_536).contains(&found), "{found}");
    }
}
