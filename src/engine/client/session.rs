//! A conversation with whoever looks after a task, that outlives their death.
//!
//! Nobody there and the task not over: the session takes the task up itself.

use std::{
    io::{self, Read},
    os::{fd::AsFd, fd::BorrowedFd, unix::net::UnixStream},
};

use super::find::{Connection, Vigil, connect, launch, take_up};
use crate::{
    cli::{self, Code, Failure, is_distrust},
    engine::{
        history::{Event, TaskStatus},
        ipc::{Request, write_request},
        store::{Store, Stored},
    },
    journal::Header,
};

/// How often in a row a conversation may break before its first word.
const PATIENCE: usize = 50;

#[derive(Debug)]
pub(crate) struct Session<'s> {
    store: &'s Store,
    id: String,
    /// What is to begin, until it has.
    header: Option<Header>,
    stream: UnixStream,
    inbox: Vec<u8>,
    /// What came right behind the first word.
    pending: Vec<Event>,
}

/// What a session finds.
#[derive(Debug)]
pub(crate) enum Opened<'s> {
    /// Somebody looks after the task; this is how it stands.
    Open(Box<Session<'s>>, Box<TaskStatus>),
    /// The task is over.
    Over(Box<TaskStatus>),
}

impl<'s> Session<'s> {
    /// Begins the task of `header` with a root that waits at the other end of `root`. `None`:
    /// somebody else began another task under this id meanwhile.
    pub fn begin(
        store: &'s Store,
        header: Header,
        root: UnixStream,
    ) -> Result<Option<Opened<'s>>, Failure> {
        let id = header.task_id.clone();
        let directory = store.directory(&id).map_err(Failure::rejected)?;
        let directory = std::fs::canonicalize(&directory).map_err(Failure::rejected)?;
        // A root that died meanwhile is replaced below.
        if let Err(error) = launch(&root, &directory, header.clone(), &follow(&id)) {
            tracing::info!("the first root: {error}");
        }
        let mut session = Session {
            store,
            id,
            header: Some(header),
            stream: root,
            inbox: Vec::new(),
            pending: Vec::new(),
        };
        match session.first_word()? {
            FirstWord::Status(status) => Ok(Some(Opened::Open(Box::new(session), status))),
            FirstWord::Busy | FirstWord::Silence => {
                let (store, id, header) = (session.store, session.id, session.header);
                Session::find(store, &id, header)
            }
        }
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Finds the task called `id`, or makes somebody look after it.
    pub fn open(store: &'s Store, id: &str) -> Result<Opened<'s>, Failure> {
        let found = Session::find(store, id, None)?;
        found.ok_or_else(|| Failure::new(Code::Internal, "a task that is not itself"))
    }

    fn find(
        store: &'s Store,
        id: &str,
        header: Option<Header>,
    ) -> Result<Option<Opened<'s>>, Failure> {
        let directory = store
            .directory(id)
            .map_err(|error| Failure::new(Code::Failed, error))?;
        for _ in 0..PATIENCE {
            // Trust comes before anything else: the directory decides whom we talk to.
            let stored = match store.load(id) {
                Ok(stored) => stored,
                Err(error) => {
                    if is_distrust(&error) {
                        give_up(&directory);
                    }
                    return Err(error.into());
                }
            };
            if is_another(stored.as_ref(), header.as_ref()) {
                return Ok(None);
            }
            let vigil = Vigil::begin(&directory).map_err(Failure::internal)?;
            let is_over = |stored: &Stored| Code::of_state(stored.status.state).is_some();
            let stream = match connect(&directory).map_err(Failure::internal)? {
                Connection::Open(stream) => stream,
                Connection::Nobody => match stored {
                    Some(stored) if is_over(&stored) => {
                        return Ok(Some(Opened::Over(Box::new(stored.status))));
                    }
                    Some(_) if store.belongs_to_executor(id) => {
                        let message = format!("the executor of task {id:?} is gone");
                        return Err(Failure::new(Code::Lost, message)
                            .hint("what became of the task is the Mesos agent's to say"));
                    }
                    Some(stored) => {
                        let prepare = |root| cli::make_room(&stored.model.task, id, root);
                        take_up(&directory, None, prepare).map_err(Failure::internal)?
                    }
                    None => match &header {
                        Some(header) => {
                            // The first root died before it began: `run` made room for it.
                            take_up(&directory, Some(header.clone()), |_| ())
                                .map_err(Failure::internal)?
                        }
                        None => {
                            let message = format!("task {id:?} never began");
                            return Err(Failure::new(Code::Failed, message));
                        }
                    },
                },
            };
            let mut session = Session {
                store,
                id: id.to_owned(),
                header: header.clone(),
                stream,
                inbox: Vec::new(),
                pending: Vec::new(),
            };
            if write_request(&session.stream, &follow(id)).is_err() {
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
                    vigil.wait().map_err(Failure::internal)?;
                }
                FirstWord::Silence => {}
            }
        }
        Err(Failure::new(
            Code::Internal,
            format!("nobody who looks after task {id:?} lives long enough to answer"),
        )
        .hint("see engine.log beside its journal"))
    }

    /// Goes on after the conversation broke.
    pub fn reopen(self) -> Result<Opened<'s>, Failure> {
        let found = Session::find(self.store, &self.id, self.header)?;
        found.ok_or_else(|| Failure::rejected("another task has begun under this id meanwhile"))
    }

    /// Events that are for somebody else, before any other.
    pub fn put_back(&mut self, mut events: Vec<Event>) {
        events.append(&mut self.pending);
        self.pending = events;
    }

    /// True when [`events`](Self::events) would not wait.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn request(&self, request: &Request) -> io::Result<()> {
        write_request(&self.stream, request)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The events that have arrived; `None` at the end of the conversation. Waits when there are
    /// none.
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

    fn first_word(&mut self) -> Result<FirstWord, Failure> {
        loop {
            let Some(events) = self.events().map_err(Failure::internal)? else {
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
                        let code = match self.header {
                            Some(_) => Code::Rejected,
                            None => Code::Lost,
                        };
                        return Err(Failure::new(code, message));
                    }
                    Event::Task(_) | Event::Run(_) | Event::Notice(_) => {}
                }
            }
        }
    }
}

/// The task that is there is not the one that was to begin.
fn is_another(stored: Option<&Stored>, header: Option<&Header>) -> bool {
    match (stored, header) {
        (Some(stored), Some(header)) => stored.header != *header,
        _ => false,
    }
}

/// A task whose journal cannot be believed is lost. If nobody looks after it, a root does once more:
/// it kills what can be proved to be the task's, and leaves.
fn give_up(directory: &std::path::Path) {
    if let Err(error) = clean_up(directory) {
        tracing::warn!("cannot clean up: {error}");
    }
}

fn clean_up(directory: &std::path::Path) -> io::Result<()> {
    for _ in 0..PATIENCE {
        let vigil = Vigil::begin(directory)?;
        match connect(directory)? {
            // Whoever was killed a moment ago still holds on to everything for a while.
            Connection::Open(stream) => {
                if !hangs_up(&stream)? {
                    return Ok(());
                }
            }
            Connection::Nobody => {
                let mut answer = Vec::new();
                if let Err(error) = take_up(directory, None, |_| ())?.read_to_end(&mut answer) {
                    tracing::info!("{error}");
                }
                // That it answers means that it is done, unless somebody still has the lock.
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

/// True when the other end is gone within a second; somebody who lives says nothing unasked.
fn hangs_up(stream: &UnixStream) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, poll};
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
