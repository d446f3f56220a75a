//! Opening what is in a place that somebody else may write: no link is followed, and nothing outside is reached.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens `path` for reading. When it lies below one of `tops`, it is reached from there without any link, so that
/// whoever writes there cannot lead us elsewhere. A FIFO hangs nobody.
///
/// # Errors
/// What the system says: ELOOP for a link, EXDEV for a way out.
pub fn open_beneath(path: &Path, tops: &[PathBuf]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let below = tops
        .iter()
        .find_map(|top| Some((top, path.strip_prefix(top).ok()?)));
    let Some((top, rest)) = below else {
        return Ok(openat(CWD, path, flags, Mode::empty())?.into());
    };
    let top = openat(CWD, top, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&top, rest, flags, Mode::empty(), resolve)?.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

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
    }
}
