//! The namespaces of a private task: their init, who may enter, and when they go.

use std::{
    collections::BTreeMap,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use seccompiler::sock_filter;

use super::spawn::Confinement;
use crate::{
    protocols::dewar::link as wire,
    sandbox::private::{Blueprint, InitProcess, Place},
    task::Protection,
};

/// A private task's namespaces and rules.
#[derive(Debug)]
pub(super) struct KeptDen {
    /// `None` when it has no namespaces of its own, only fewer rights.
    pub(super) den: Option<InitProcess>,
    pub(super) rules: Option<OwnedFd>,
    /// The record that makes the init known; it is confirmed when that is on disk.
    pub(super) known: Option<u64>,
    /// What its events are numbered with.
    pub(super) serial: usize,
}

/// All of them, by task.
#[derive(Debug, Default)]
pub(super) struct Dens {
    pub(super) all: BTreeMap<u32, KeptDen>,
    /// Inits that are dying while their tasks have others already.
    pub(super) dying: Vec<(usize, InitProcess)>,
    pub(super) serials: usize,
    /// The same for everybody, made when the first one needs it.
    pub(super) filters: Vec<Vec<sock_filter>>,
}

/// How a child enters its task's namespaces, and with which rights.
pub(super) struct Entrance<'a> {
    pub den: Option<&'a InitProcess>,
    pub confinement: Confinement<'a>,
}

pub(super) fn has(private: &wire::Private, protection: Protection) -> bool {
    private.without & 1 << protection as u32 == 0
}

/// The namespaces that are wanted, but for the user namespace.
pub(super) fn namespaces(private: &wire::Private) -> i32 {
    let flags = [
        (Protection::Mounts, libc::CLONE_NEWNS),
        (Protection::Pids, libc::CLONE_NEWPID),
        (Protection::Ipc, libc::CLONE_NEWIPC),
        (Protection::Uts, libc::CLONE_NEWUTS),
    ];
    let wanted = flags.into_iter().filter(|(one, _)| has(private, *one));
    wanted.fold(0, |all, (_, flag)| all | flag)
}

/// What a private task is shown.
pub(super) fn blueprint(sandbox: &Path, private: &wire::Private) -> Result<Blueprint, String> {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let places: Vec<Place> = private
        .volumes
        .iter()
        .map(|volume| match volume.host_path.is_empty() {
            true => Place::Tmpfs {
                to: path(&volume.container_path),
                size: volume.size,
            },
            false => Place::Bound {
                from: path(&volume.host_path),
                to: path(&volume.container_path),
                writable: volume.writable,
            },
        })
        .collect();
    let namespaces = namespaces(private);
    Blueprint::new(sandbox, &places, namespaces).map_err(|error| error.to_string())
}

/// Builds the namespaces of a private task, and takes them away again.
///
/// # Errors
/// The step that failed, and on what.
pub fn try_private(sandbox: &Path, private: &wire::Private) -> Result<(), String> {
    let blueprint = blueprint(sandbox, private)?;
    if blueprint.namespaces() & !libc::CLONE_NEWUSER != 0 {
        let den = InitProcess::build(&blueprint).map_err(|error| error.to_string())?;
        den.destroy();
    }
    Ok(())
}
