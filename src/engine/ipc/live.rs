//! The few facts that must be seen in the instant their writer dies: a small shared mapping.
//!
//! It holds who root, keeper and runner are, and one slot per launch in flight. A child that
//! passes its gate turns its slot from GATED to PASSED with one compare-and-swap; a successor that
//! finds a run without an exec record turns GATED to REVOKED the same way. The one that wins is
//! right: a revoked child leaves without effect. The mapping is a file, so it also outlives root
//! and keeper together; it is never synced, because after a reboot nothing in it means anything.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::run_key::Key;

const SIZE: usize = 16 << 10;
const WORDS: usize = SIZE / 4;
/// How many words are before the first slot.
const HEAD: usize = 16;
/// The words of a slot: state, task, process, run, error.
const SLOT_WORDS: usize = 5;
/// Launches that can be in flight at once.
pub(super) const SLOTS: usize = (WORDS - HEAD) / SLOT_WORDS;

const ERROR: usize = 4;

/// The key of no run: a slot with it is of a health check's script.
const SCRIPT: Key = Key {
    task: 0,
    process: u32::MAX,
    run: 0,
};

const FREE: u32 = 0;
const GATED: u32 = 1;
const PASSED: u32 = 2;
const FAILED: u32 = 3;
const REVOKED: u32 = 4;
/// A slot of this state is of signals: how many of a run's were sent.
const SIGNALS: u32 = 5;

/// Added to the process in a slot of signals, so that an earlier version takes it for no launch.
const OF_SIGNALS: u32 = 1 << 31;

/// One of the three processes that look after a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The root, which waits above the keeper.
    Root,
    /// The keeper, the parent of the task's processes.
    Keeper,
    /// The runner, which decides.
    Runner,
}

/// What a slot says of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Still behind the gate.
    Waiting,
    /// Went through: it is or becomes the user's program.
    Passed,
    /// Could not become the user's program: step and errno.
    Failed(u32),
    /// Called back before it went through.
    Revoked,
}

/// The mapping that root, keeper and children share.
#[derive(Debug)]
pub struct SharedState {
    words: NonNull<AtomicU32>,
}

// SAFETY: the mapping is only reached through atomics and lives until drop.
unsafe impl Send for SharedState {}

impl SharedState {
    /// Maps `file`, growing it when it is new.
    ///
    /// # Errors
    /// What fallocate and mmap say.
    pub fn map(file: &File) -> io::Result<SharedState> {
        // With its blocks: a mapping of a file with holes ends in SIGBUS when the disk is full.
        nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, SIZE as i64)?;
        Ok(SharedState {
            words: map(file.as_fd(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?,
        })
    }

    /// Forgets everything: a new task, or a new boot.
    pub(crate) fn clear(&self) {
        for word in 0..WORDS {
            self.word(word).store(0, Ordering::SeqCst);
        }
    }

    pub(crate) fn set_holder(&self, holder: Holder, pid: u32, start_ticks: u64) {
        set_holder(|index| self.word(index), holder, pid, start_ticks);
    }

    /// Takes a free slot for a launch; `None` when all are in flight.
    pub(crate) fn take_slot(&self, key: Key) -> Option<usize> {
        let slot = (0..SLOTS).find(|slot| self.state(*slot).load(Ordering::SeqCst) == FREE)?;
        for (offset, value) in [(1, key.task), (2, key.process), (3, key.run), (ERROR, 0)] {
            self.word(base(slot) + offset)
                .store(value, Ordering::SeqCst);
        }
        self.state(slot).store(GATED, Ordering::SeqCst);
        Some(slot)
    }

    /// Takes a free slot for a health check's script.
    pub(crate) fn take_script_slot(&self) -> Option<usize> {
        self.take_slot(SCRIPT)
    }

    /// Which process the script is: pid, and the lower half of its start time.
    pub(crate) fn set_script(&self, slot: usize, pid: i32, start_ticks: u64) {
        self.word(base(slot) + 1)
            .store(pid as u32, Ordering::SeqCst);
        self.word(base(slot) + 3)
            .store(start_ticks as u32, Ordering::SeqCst);
    }

    /// Frees the slots of a dead keeper's scripts and tells which processes they are: pid, and the
    /// lower half of the start time. One whose slot does not say so never passed its gate.
    pub(crate) fn forget_scripts(&self) -> Vec<(i32, u32)> {
        let word =
            |slot: usize, offset: usize| self.word(base(slot) + offset).load(Ordering::SeqCst);
        let scripts = (0..SLOTS)
            .filter(|slot| word(*slot, 0) != FREE && word(*slot, 2) == SCRIPT.process)
            .map(|slot| {
                self.free_slot(slot);
                (word(slot, 1) as i32, word(slot, 3))
            });
        scripts.filter(|(pid, _)| *pid > 0).collect()
    }

    /// Takes a free slot for signals to a run, of which `sent` were sent; `None` when all slots are
    /// taken.
    pub(crate) fn take_signal_slot(&self, key: Key, sent: u32) -> Option<usize> {
        let of_signals = Key {
            process: key.process | OF_SIGNALS,
            ..key
        };
        let slot = self.take_slot(of_signals)?;
        self.set_signals_sent(slot, sent);
        self.state(slot).store(SIGNALS, Ordering::SeqCst);
        Some(slot)
    }

    /// So many of the run's signals have been sent by now.
    pub(crate) fn set_signals_sent(&self, slot: usize, sent: u32) {
        self.word(base(slot) + ERROR).store(sent, Ordering::SeqCst);
    }

    /// The slots of the signals to a run, and how many were sent as far as they say.
    pub(crate) fn signals_sent(&self, key: Key) -> (Vec<usize>, u32) {
        let all = self.signal_slots().into_iter();
        let its: Vec<usize> = all
            .filter(|(_, other)| *other == key)
            .map(|(slot, _)| slot)
            .collect();
        let sent = its
            .iter()
            .map(|slot| self.word(base(*slot) + ERROR).load(Ordering::SeqCst));
        let sent = sent.max().unwrap_or_default();
        (its, sent)
    }

    /// Frees the slots of signals to runs for which `lives` is false.
    pub(crate) fn forget_signals(&self, lives: impl Fn(Key) -> bool) {
        for (slot, key) in self.signal_slots() {
            if !lives(key) {
                self.free_slot(slot);
            }
        }
    }

    fn signal_slots(&self) -> Vec<(usize, Key)> {
        let word =
            |slot: usize, offset: usize| self.word(base(slot) + offset).load(Ordering::SeqCst);
        let slots = (0..SLOTS).filter(|slot| word(*slot, 0) == SIGNALS);
        slots
            .map(|slot| {
                let key = Key {
                    task: word(slot, 1),
                    process: word(slot, 2) & !OF_SIGNALS,
                    run: word(slot, 3),
                };
                (slot, key)
            })
            .collect()
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        (0..SLOTS).any(|slot| self.state(slot).load(Ordering::SeqCst) == FREE)
    }

    pub(crate) fn free_slot(&self, slot: usize) {
        self.state(slot).store(FREE, Ordering::SeqCst);
    }

    /// The slot of a run, if its launch is or was in flight. A launch that was called
    /// back keeps its slot for ever (its child may still look there), so a later one comes first.
    pub(crate) fn find_slot(&self, key: Key) -> Option<usize> {
        let has = |slot: usize, offset: usize, value: u32| {
            self.word(base(slot) + offset).load(Ordering::SeqCst) == value
        };
        let is_of = |slot: &usize| {
            !has(*slot, 0, FREE)
                && has(*slot, 1, key.task)
                && has(*slot, 2, key.process)
                && has(*slot, 3, key.run)
        };
        let revoked = |slot: &usize| self.gate(*slot) == Gate::Revoked;
        let later = (0..SLOTS).find(|slot| is_of(slot) && !revoked(slot));
        later.or_else(|| (0..SLOTS).find(is_of))
    }

    pub(crate) fn gate(&self, slot: usize) -> Gate {
        match self.state(slot).load(Ordering::SeqCst) {
            PASSED => Gate::Passed,
            FAILED => Gate::Failed(self.word(base(slot) + ERROR).load(Ordering::SeqCst)),
            REVOKED => Gate::Revoked,
            _ => Gate::Waiting,
        }
    }

    /// Calls back a launch; false when it went through before.
    pub(crate) fn revoke(&self, slot: usize) -> bool {
        let state = self.state(slot);
        let swap = state.compare_exchange(GATED, REVOKED, Ordering::SeqCst, Ordering::SeqCst);
        swap.is_ok() || swap == Err(REVOKED)
    }

    /// What the child of this launch may touch.
    pub(crate) fn pass(&self, slot: usize) -> Pass<'_> {
        Pass {
            state: self.state(slot),
            error: self.word(base(slot) + ERROR),
        }
    }

    fn state(&self, slot: usize) -> &AtomicU32 {
        self.word(base(slot))
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < WORDS);
        // SAFETY: `words` points to WORDS mapped words, and index is below that.
        unsafe { self.words.add(index).as_ref() }
    }
}

impl Drop for SharedState {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size; no reference outlives `self`.
        if let Err(errno) = unsafe { munmap(self.words.cast(), SIZE) } {
            tracing::warn!("munmap: {errno}");
        }
    }
}

/// A child's side of its slot. Both methods are safe between fork and exec.
pub(crate) struct Pass<'a> {
    state: &'a AtomicU32,
    error: &'a AtomicU32,
}

impl Pass<'_> {
    /// True when the child may become the user's program.
    pub fn go_through(&self) -> bool {
        let (from, to) = (GATED, PASSED);
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    pub fn fail(&self, error: u32) {
        self.error.store(error, Ordering::SeqCst);
        self.state.store(FAILED, Ordering::SeqCst);
    }
}

/// Root, keeper and runner, as the mapping of another process names them.
#[derive(Debug)]
pub struct HoldersView {
    holders: [(u32, u64); 3],
}

impl HoldersView {
    /// Reads the holders from `file`.
    ///
    /// # Errors
    /// What read says.
    pub fn read(file: &File) -> io::Result<HoldersView> {
        let mut bytes = [0; HEAD * 4];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0)?;
        let word = |index: usize| {
            let at = index * 4;
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let holder = |holder: Holder| {
            let at = holder_base(holder);
            (
                word(at),
                u64::from(word(at + 1)) | u64::from(word(at + 2)) << 32,
            )
        };
        Ok(HoldersView {
            holders: [
                holder(Holder::Root),
                holder(Holder::Keeper),
                holder(Holder::Runner),
            ],
        })
    }

    /// The pid of a holder that is alive and still the same process.
    pub fn pid(&self, holder: Holder) -> Option<u32> {
        let (pid, start_ticks) = self.holders[holder as usize];
        let stat = crate::sys::process::stat(i32::try_from(pid).ok()?)?;
        (pid != 0 && stat.start_ticks == start_ticks && !stat.is_dead()).then_some(pid)
    }
}

fn map(fd: std::os::fd::BorrowedFd<'_>, access: ProtFlags) -> io::Result<NonNull<AtomicU32>> {
    let size = NonZeroUsize::MIN.saturating_add(SIZE - 1);
    // SAFETY: a fresh shared mapping of a file that is at least this long and never shrunk.
    let address = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, fd, 0) }?;
    Ok(address.cast())
}

fn base(slot: usize) -> usize {
    HEAD + slot * SLOT_WORDS
}

fn holder_base(holder: Holder) -> usize {
    1 + holder as usize * 4
}

fn set_holder<'a>(
    word: impl Fn(usize) -> &'a AtomicU32,
    holder: Holder,
    pid: u32,
    start_ticks: u64,
) {
    let at = holder_base(holder);
    word(at).store(pid, Ordering::SeqCst);
    word(at + 1).store(start_ticks as u32, Ordering::SeqCst);
    word(at + 2).store((start_ticks >> 32) as u32, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(process: u32, run: u32) -> Key {
        Key {
            task: 0,
            process,
            run,
        }
    }

    fn live() -> SharedState {
        SharedState::map(&tempfile::tempfile().unwrap()).unwrap()
    }

    #[test]
    fn either_the_child_passes_or_the_successor_revokes() {
        let live = live();
        let slot = live.take_slot(key(3, 7)).unwrap();
        assert_eq!(live.find_slot(key(3, 7)), Some(slot));
        assert_eq!(live.gate(slot), Gate::Waiting);
        assert!(live.pass(slot).go_through());
        assert!(!live.revoke(slot));
        assert_eq!(live.gate(slot), Gate::Passed);
        live.free_slot(slot);

        let slot = live.take_slot(key(3, 8)).unwrap();
        assert!(live.revoke(slot));
        assert!(live.revoke(slot), "a second successor finds it revoked");
        assert!(!live.pass(slot).go_through());
    }

    #[test]
    fn signals_that_were_sent_are_known_to_a_successor() {
        let live = live();
        let launch = live.take_slot(key(3, 7)).unwrap();
        let slot = live.take_signal_slot(key(3, 7), 4).unwrap();
        assert_eq!(live.find_slot(key(3, 7)), Some(launch), "it is no launch");
        assert_eq!(live.signals_sent(key(3, 7)), (vec![slot], 4));
        live.set_signals_sent(slot, 5);
        let second = live.take_signal_slot(key(3, 7), 5).unwrap();
        assert_eq!(live.signals_sent(key(3, 7)), (vec![slot, second], 5));
        assert_eq!(live.signals_sent(key(3, 8)), (vec![], 0));
        assert_eq!(live.forget_scripts(), []);
        live.forget_signals(|other| other == key(3, 7));
        assert_eq!(live.signals_sent(key(3, 7)).1, 5);
        live.forget_signals(|_| false);
        assert_eq!(live.signals_sent(key(3, 7)), (vec![], 0));
        assert_eq!(live.find_slot(key(3, 7)), Some(launch));
    }

    #[test]
    fn slots_run_out_and_come_back() {
        let live = live();
        let taken: Vec<_> = (0..SLOTS as u32)
            .map(|run| live.take_slot(key(0, run)))
            .collect();
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(live.take_slot(key(1, 0)), None);
        live.free_slot(5);
        assert_eq!(live.take_slot(key(1, 0)), Some(5));
    }

    #[test]
    fn a_holder_is_only_shown_while_it_is_the_same_process() {
        let file = tempfile::tempfile().unwrap();
        let live = SharedState::map(&file).unwrap();
        let me = std::process::id();
        let ticks = crate::sys::process::stat(me as i32).unwrap().start_ticks;
        live.set_holder(Holder::Keeper, me, ticks);
        live.set_holder(Holder::Root, me, ticks + 1);
        let view = HoldersView::read(&file).unwrap();
        assert_eq!(view.pid(Holder::Keeper), Some(me));
        assert_eq!(view.pid(Holder::Root), None);
        assert_eq!(view.pid(Holder::Runner), None);
    }
}
