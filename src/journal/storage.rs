//! What a journal is kept in: a file of a directory, or in tests something that forgets like a
//! disk.
//!
//! The order of these calls is all that durability rests on, so tests can play every image that a
//! crash between them may leave.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, PermissionsExt},
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, fsync, unlinkat},
};

/// Bytes that can be made durable, and be replaced as a whole.
pub trait Storage: Sized + fmt::Debug {
    /// Writes within or behind what is there.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts, or lengthens with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&mut self, length: u64) -> io::Result<()>;

    /// Returns when everything that was written is durable.
    ///
    /// # Errors
    /// What the system says; what is durable is then unknown.
    fn sync(&mut self) -> io::Result<()>;

    /// All that is there.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// An empty one beside this one, to take its place.
    ///
    /// # Errors
    /// What the system says.
    fn fresh(&mut self) -> io::Result<Self>;

    /// `fresh` takes the place of this one, at once and durably.
    ///
    /// # Errors
    /// What the system says; which of the two is there after a crash is then unknown.
    fn supplant(&mut self, fresh: Self) -> io::Result<()>;
}

/// A file, and where it is.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    directory: OwnedFd,
    name: String,
}

/// Follows a journal's name while its replacement is written.
const FRESH: &str = ".new";

impl FileStorage {
    /// The file `name` of `directory`, opened without following links and made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: OwnedFd, name: &str) -> io::Result<FileStorage> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&directory, name, flags, Mode::from_bits_truncate(0o600))?;
        Ok(FileStorage {
            file: fd.into(),
            directory,
            name: name.to_owned(),
        })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Storage for FileStorage {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        if length == 0 {
            // It begins anew, whoever made it.
            self.file
                .set_permissions(PermissionsExt::from_mode(0o600))?;
        }
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn fresh(&mut self) -> io::Result<FileStorage> {
        let name = format!("{}{FRESH}", self.name);
        match unlinkat(&self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o600);
        let fd = openat(&self.directory, name.as_str(), flags, mode)?;
        Ok(FileStorage {
            file: fd.into(),
            directory: self.directory.try_clone()?,
            name,
        })
    }

    fn supplant(&mut self, fresh: FileStorage) -> io::Result<()> {
        let (directory, name) = (&self.directory, self.name.as_str());
        renameat(directory, fresh.name.as_str(), directory, name)?;
        // It has the name from here on, whether or not that is on disk.
        self.file = fresh.file;
        fsync(directory)?;
        Ok(())
    }
}
