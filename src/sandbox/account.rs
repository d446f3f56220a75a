//! Accounts of this machine that processes run as.

use nix::unistd::{Uid, User, getgrouplist};
use std::ffi::CString;
use thiserror::Error;

/// An account of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, or the number of a uid that has none.
    pub name: String,
    /// The user id of the account.
    pub uid: u32,
    /// The id of its primary group.
    pub gid: u32,
}

/// Why a task cannot run as an account.
#[derive(Debug, Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("unknown user {0:?}")]
    Unknown(String),
    /// The account cannot be looked up.
    #[error("cannot look up user {0:?}: {1}")]
    Lookup(String, nix::errno::Errno),
    /// Only root may run processes as another user.
    #[error("running as {0:?} needs root (this is {1:?})")]
    NeedsRoot(String, String),
}

impl Account {
    /// The account that runs this process.
    pub fn own() -> Account {
        let uid = nix::unistd::geteuid();
        let gid = nix::unistd::getegid().as_raw();
        let name = match User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        };
        Account {
            name,
            uid: uid.as_raw(),
            gid,
        }
    }

    /// The account called `name`.
    ///
    /// # Errors
    /// When there is none, or it cannot be looked up.
    pub fn named(name: &str) -> Result<Account, AccountError> {
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Account {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }),
            Ok(None) => Err(AccountError::Unknown(name.to_owned())),
            Err(errno) => Err(AccountError::Lookup(name.to_owned(), errno)),
        }
    }

    /// Checks that this process may run processes as the account.
    ///
    /// # Errors
    /// [`AccountError::NeedsRoot`].
    pub fn check_reachable(&self) -> Result<(), AccountError> {
        let own = Account::own();
        match Uid::from_raw(own.uid).is_root() || own.uid == self.uid {
            true => Ok(()),
            false => Err(AccountError::NeedsRoot(self.name.clone(), own.name)),
        }
    }

    /// The groups that list the account, and its primary one.
    pub fn groups(&self) -> Vec<u32> {
        let listed = CString::new(self.name.as_str())
            .ok()
            .and_then(|name| getgrouplist(&name, nix::unistd::Gid::from_raw(self.gid)).ok());
        match listed {
            Some(groups) => groups.iter().map(|gid| gid.as_raw()).collect(),
            None => vec![self.gid],
        }
    }
}
