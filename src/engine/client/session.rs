//! A conversation with the runner of a task, that outlives the death of runner, keeper and root.
//!
//! Where no root or keeper is left and the task is not over, the session makes a root that takes
//! the task up.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nix::poll::{PollFd, PollFlags, poll};

use super::{
    find_or_begin::{Connection, Vigil, connect, launch, take_up},
    session_error::SessionError,
};
use crate::{
    engine::{
        history::{Event, TaskStatus},
        ipc::{Request, write_request},
        store::{Store, Stored},
    },
    journal::Header,
    task::Task,
};

/// How often in a row a conversation may break before the first event.
const PATIENCE: usize = 50;

/// Sees to it that a new root can enforce the limits of the task that it takes up. It gets the
/// task, its id and the pid of the root.
pub(crate) type MakeRoom = fn(&Task, &str, u32);

/// A conversation about one task.
#[derive(Debug)]
pub(crate) struct Session<'s> {
    store: &'s Store,
    make_room: MakeRoom,
    id: String,
    /// The task that the client wants to begin. `None` when the task has begun before.
    header: Option<Header>,
    stream: UnixStream,
    inbox: Vec<u8>,
    /// Events that arrived and were not taken yet.
    pending: Vec<Event>,
}

/// What came of looking for a runner.
#[derive(Debug)]
pub(crate) enum Opened<'s> {
    /// A runner answers; this is how the task stands.
    Open(Box<Session<'s>>, Box<TaskStatus>),
    /// The task is over.
    Over(Box<TaskStatus>),
}

impl<'s> Session<'s> {
    /// Begins the task of `header` with a root that waits at the other end of `root`. `None`:
    /// another client began another task under this id meanwhile.
    ///
    /// # Errors
    /// Why nothing began, or why there is no conversation about what did.
    pub fn begin(
        store: &'s Store,
        header: Header,
        root: UnixStream,
        make_room: MakeRoom,
    ) -> Result<Option<Opened<'s>>, SessionError> {
        let id = header.task_id.clone();
        let directory = store.directory(&id)?;
        let directory = std::fs::canonicalize(&directory).map_err(SessionError::Directory)?;
        // When the root has died meanwhile, `find` below replaces it.
        if let Err(error) = launch(&root, &directory, header.clone(), &follow(&id)) {
            tracing::info!("the first root: {error}");
        }
        let mut session = Session {
            store,
            make_room,
            id,
            header: Some(header),
            stream: root,
            inbox: Vec::new(),
            pending: Vec::new(),
        };
        match session.first_word()? {
            FirstWord::Status(status) => Ok(Some(Opened::Open(Box::new(session), status))),
            FirstWord::Busy | FirstWord::Silence => {
                Session::find(store, &session.id, session.header, make_room)
            }
        }
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Finds the runner of the task called `id`, or makes a root that takes the task up.
    ///
    /// # Errors
    /// Why there is no conversation.
    pub fn open(
        store: &'s Store,
        id: &str,
        make_room: MakeRoom,
    ) -> Result<Opened<'s>, SessionError> {
        let found = Session::find(store, id, None, make_room)?;
        found.ok_or(SessionError::Replaced)
    }

    fn find(
        store: &'s Store,
        id: &str,
        header: Option<Header>,
        make_room: MakeRoom,
    ) -> Result<Option<Opened<'s>>, SessionError> {
        let directory = store.directory(id)?;
        let mut silences = 0;
        for _ in 0..PATIENCE {
            // Comes first: in a directory that is not trusted, the socket may be another user's.
            let stored = match store.load(id) {
                Ok(stored) => stored,
                Err(error) => {
                    if error.is_distrust() {
                        give_up(&directory);
                    }
                    return Err(error.into());
                }
            };
            if is_another(stored.as_ref(), header.as_ref()) {
                return Ok(None);
            }
            let vigil = Vigil::begin(&directory)?;
            let stream = match (connect(&directory)?, stored) {
                (Connection::Open(stream), _) => stream,
                (Connection::Closed, Some(stored)) if stored.status.state.is_terminal() => {
                    return Ok(Some(Opened::Over(Box::new(stored.status))));
                }
                (Connection::Closed, Some(_)) if store.belongs_to_executor(id) => {
                    return Err(SessionError::ExecutorGone(id.to_owned()));
                }
                (Connection::Closed, Some(stored)) => {
                    let prepare = |root| make_room(&stored.model.task, id, root);
                    take_up(&directory, None, silences, prepare)?
                }
                (Connection::Closed, None) => match &header {
                    // The first root died before it began: its client made room for it.
                    Some(header) => take_up(&directory, Some(header.clone()), silences, |_| ())?,
                    None => return Err(SessionError::NeverBegan(id.to_owned())),
                },
            };
            let mut session = Session {
                store,
                make_room,
                id: id.to_owned(),
                header: header.clone(),
                stream,
                inbox: Vec::new(),
                pending: Vec::new(),
            };
            if write_request(&session.stream, &follow(id)).is_err() {
                silences += 1;
                continue;
            }
            match session.first_word()? {
                FirstWord::Status(status) => {
                    let stored = store.load(id).ok().flatten();
                    return Ok(match is_another(stored.as_ref(), header.as_ref()) {
                        true => None,
                        false => Some(Opened::Open(Box::new(session), status)),
                    });
                }
                FirstWord::Busy => {
                    // Its keeper is just beginning to listen, or just leaving.
                    vigil.wait()?;
                }
                FirstWord::Silence => silences += 1,
            }
        }
        Err(SessionError::NoAnswer(id.to_owned()))
    }

    /// Goes on after the conversation broke.
    ///
    /// # Errors
    /// Why there is no conversation.
    pub fn reopen(self) -> Result<Opened<'s>, SessionError> {
        let found = Session::find(self.store, &self.id, self.header, self.make_room)?;
        found.ok_or(SessionError::Replaced)
    }

    /// Takes back events that the next question is about; they come before any other.
    pub fn put_back(&mut self, mut events: Vec<Event>) {
        events.append(&mut self.pending);
        self.pending = events;
    }

    /// True when [`events`](Self::events) would not wait.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Asks the runner for something.
    ///
    /// # Errors
    /// What the socket says.
    pub fn request(&self, request: &Request) -> io::Result<()> {
        write_request(&self.stream, request)
    }

    /// Readable when events have arrived.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The events that have arrived; `None` at the end of the conversation. Waits when there are
    /// none.
    ///
    /// # Errors
    /// What the socket says.
    pub fn events(&mut self) -> io::Result<Option<Vec<Event>>> {
        if !self.pending.is_empty() {
            return Ok(Some(std::mem::take(&mut self.pending)));
        }
        let mut chunk = [0; 16 << 10];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Some(Vec::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        self.inbox.extend_from_slice(&chunk[..count]);
        let Some(end) = self.inbox.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Some(Vec::new()));
        };
        let rest = self.inbox.split_off(end + 1);
        let lines = std::mem::replace(&mut self.inbox, rest);
        let mut events = Vec::new();
        for line in lines.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            events.extend(Event::read(line).map_err(io::Error::other)?);
        }
        Ok(Some(events))
    }

    fn first_word(&mut self) -> Result<FirstWord, SessionError> {
        loop {
            let Some(events) = self.events()? else {
                return Ok(FirstWord::Silence);
            };
            let mut events = events.into_iter();
            while let Some(event) = events.next() {
                match event {
                    Event::Status(status) => {
                        self.pending = events.collect();
                        return Ok(FirstWord::Status(status));
                    }
                    Event::Refused { busy: true, .. } => return Ok(FirstWord::Busy),
                    Event::Refused { message, .. } => {
                        return Err(match self.header {
                            Some(_) => SessionError::Rejected(message),
                            None => SessionError::TakeUpRefused(message),
                        });
                    }
                    Event::Task(_) | Event::Run(_) | Event::Notice(_) => {}
                }
            }
        }
    }
}

/// True when the task on disk is not the one that was to begin.
fn is_another(stored: Option<&Stored>, header: Option<&Header>) -> bool {
    match (stored, header) {
        (Some(stored), Some(header)) => stored.header != *header,
        _ => false,
    }
}

/// A task whose journal cannot be believed is lost. Where it has no root or keeper, a root takes it
/// up once more: it kills what can be proved to be the task's, and leaves.
fn give_up(directory: &Path) {
    if let Err(error) = clean_up(directory) {
        tracing::warn!("cannot clean up: {error}");
    }
}

fn clean_up(directory: &Path) -> io::Result<()> {
    for silences in 0..PATIENCE {
        let vigil = Vigil::begin(directory)?;
        match connect(directory)? {
            // A keeper that was killed a moment ago still holds on to everything for a while.
            Connection::Open(stream) => {
                if !hangs_up(&stream)? {
                    return Ok(());
                }
            }
            Connection::Closed => {
                let mut answer = Vec::new();
                if let Err(error) =
                    take_up(directory, None, silences, |_| ())?.read_to_end(&mut answer)
                {
                    tracing::info!("{error}");
                }
                // That it answers means that it is done, unless another process still has the lock.
                let is_busy = matches!(
                    serde_json::from_slice(&answer),
                    Ok(Event::Refused { busy: true, .. })
                );
                if !is_busy {
                    return Ok(());
                }
                vigil.wait()?;
            }
        }
    }
    Ok(())
}

/// True when the other end is gone within a second; a runner that lives says nothing unasked.
fn hangs_up(stream: &UnixStream) -> io::Result<bool> {
    const PATIENCE_MS: u16 = 1000;
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PATIENCE_MS)? > 0)
}

#[derive(Debug)]
enum FirstWord {
    Status(Box<TaskStatus>),
    Busy,
    Silence,
}

fn follow(id: &str) -> Request {
    Request::Follow {
        task: Some(id.to_owned()),
    }
}
