//! Opening files in directories that other users may write: no link is followed, and nothing
//! outside is reached.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens `path` for reading. When it leads through one of `tops`, under whatever name, it is
/// reached from there without any link, so that a user who writes there cannot lead the caller
/// elsewhere. Opening a FIFO does not block.
///
/// # Errors
/// The error of openat2: ELOOP for a link, EXDEV for a way out.
pub fn open_beneath(path: &Path, tops: &[PathBuf]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Some((top, rest)) = entry(path, tops) else {
        return Ok(openat(CWD, path, flags, Mode::empty())?.into());
    };
    let top = openat(CWD, &top, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&top, rest, flags, Mode::empty(), resolve)?.into())
}

/// Where `path` first enters one of `tops`, and what is left of it there.
fn entry(path: &Path, tops: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
    let tops: Vec<PathBuf> = tops
        .iter()
        .filter_map(|top| fs::canonicalize(top).ok())
        .collect();
    let mut ways: Vec<&Path> = path.ancestors().skip(1).collect();
    ways.reverse();
    ways.into_iter().find_map(|way| {
        let real = fs::canonicalize(way).ok()?;
        let is_inside = tops.iter().any(|top| real.starts_with(top));
        is_inside.then(|| Some((real, path.strip_prefix(way).ok()?.to_path_buf())))?
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_anywhere() {
        let top = tempfile::tempdir().unwrap();
        let tops = [top.path().to_path_buf()];
        fs::write(top.path().join("file"), "x").unwrap();
        symlink("/etc", top.path().join("directory")).unwrap();
        symlink("/etc/hostname", top.path().join("link")).unwrap();
        let open = |name: &str| open_beneath(&top.path().join(name), &tops);
        assert!(open("file").is_ok());
        for name in ["link", "directory/hostname", "../../etc/hostname"] {
            assert!(open(name).is_err(), "{name}");
        }
        assert!(open_beneath(Path::new("/etc/hostname"), &tops).is_ok());
        // Under another name it is the same place.
        let elsewhere = tempfile::tempdir().unwrap();
        let alias = elsewhere.path().join("alias");
        symlink(top.path(), &alias).unwrap();
        assert!(open_beneath(&alias.join("file"), &tops).is_ok());
        assert!(open_beneath(&alias.join("link"), &tops).is_err());
        assert!(open_beneath(&alias.join("directory/hostname"), &tops).is_err());
    }
}
