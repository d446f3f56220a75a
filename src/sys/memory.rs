//! Giving back the pages of code that starting up has mapped.
//!
//! Root, keeper and runner wait most of their lives. Their code is clean page cache: unmapping it
//! costs a few page faults for what is needed again, and a third of our memory is not ours any
//! more.
#![allow(unsafe_code)]

use std::{collections::HashSet, fs, ptr, sync::OnceLock};

/// All threads use one heap: [`trim_heap`] gives back the free end of that one only.
pub(crate) fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's, which has an effect on threads to come.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free heap back, of all threads.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives free heap back to the system; touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives free heap back and unmaps all pages of code and constants; they come back when they are
/// touched.
pub fn trim_code() {
    /// Found once: nothing unloads a program or a library, and a process forked from this one has
    /// them in the same places.
    static CLEAN: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    trim_heap();
    for (start, end) in CLEAN.get_or_init(clean_ranges) {
        let address = ptr::without_provenance_mut::<libc::c_void>(*start);
        // SAFETY: the range is a private, never written mapping of a file, so what is dropped is
        // read from that file again when it is next touched.
        let result = unsafe { libc::madvise(address, end - start, libc::MADV_DONTNEED) };
        if result != 0 {
            tracing::debug!("madvise: {}", std::io::Error::last_os_error());
        }
    }
}

/// All ranges of this process that are clean, and stay mapped: those of files with code.
fn clean_ranges() -> Vec<(usize, usize)> {
    ranges_in(&fs::read_to_string("/proc/self/maps").unwrap_or_default())
}

fn ranges_in(maps: &str) -> Vec<(usize, usize)> {
    let path_of = |line: &'_ str| line.split_whitespace().nth(5).map(str::to_owned);
    let with_code = maps.lines().filter(|line| line.contains(" r-xp "));
    let with_code: HashSet<String> = with_code.filter_map(path_of).collect();
    let mut code = "";
    let lines = maps.lines();
    lines
        .filter(|line| path_of(line).is_some_and(|path| with_code.contains(&path)))
        .filter_map(|line| clean_range(line, &mut code))
        .collect()
}

/// The range of a line of /proc/self/maps, if it is code from a file, or constants in front of its
/// code. What is read-only behind the code may have been written before (relocations), and is left
/// alone. `code` is the file whose code was seen last.
fn clean_range<'m>(line: &'m str, code: &mut &'m str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let range = fields.next()?;
    let access = fields.next()?;
    let path = fields.nth(3)?;
    match access {
        "r-xp" if path.starts_with('/') => *code = path,
        "r--p" if path.starts_with('/') && path != *code => {}
        _ => return None,
    }
    let (start, end) = range.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    Some((parse(start)?, parse(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_given_back() {
        let maps = "\
55a0-55b0 r--p 00000000 fe:00 123                  /usr/bin/x
55b0-55c0 r-xp 00001000 fe:00 123                  /usr/bin/x
55c0-55d0 r--p 00002000 fe:00 123                  /usr/bin/x
55d0-55e0 rw-p 00003000 fe:00 123                  /usr/bin/x
55e0-55f0 rw-p 00000000 00:00 0
7f00-7f10 r--p 00000000 fe:00 124                  /usr/lib/libc.so
7f10-7f20 r-xp 00001000 fe:00 124                  /usr/lib/libc.so
7f20-7f30 r--p 00002000 fe:00 124                  /usr/lib/libc.so
7f40-7f50 r--p 00000000 fe:00 125                  /usr/share/data
7ffd0-7ffe0 r-xp 00000000 00:00 0                  [vdso]";
        let given: Vec<usize> = ranges_in(maps).iter().map(|(start, _)| *start).collect();
        assert_eq!(given, [0x55a0, 0x55b0, 0x7f00, 0x7f10]);
    }

    #[test]
    fn we_live_on() {
        trim_code();
        trim_code();
    }
}
