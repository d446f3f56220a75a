//! Giving back the pages of code that starting up has mapped.
//!
//! Root, keeper and runner wait most of their lives. Their code is clean page cache: unmapping it
//! costs a few page faults for what is needed again, and a third of our memory is not ours any
//! more.
#![allow(unsafe_code)]

use std::{fs, ptr};

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
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else {
        return;
    };
    trim_heap();
    let mut code = "";
    for line in maps.lines() {
        let Some((start, end)) = clean_range(line, &mut code) else {
            continue;
        };
        let address = ptr::without_provenance_mut::<libc::c_void>(start);
        // SAFETY: the range is a private, never written mapping of a file, so what is dropped is
        // read from that file again when it is next touched.
        let result = unsafe { libc::madvise(address, end - start, libc::MADV_DONTNEED) };
        if result != 0 {
            tracing::debug!("madvise: {}", std::io::Error::last_os_error());
        }
    }
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
7ffd0-7ffe0 r-xp 00000000 00:00 0                  [vdso]";
        let mut code = "";
        let given: Vec<usize> = maps
            .lines()
            .filter_map(|line| clean_range(line, &mut code))
            .map(|(start, _)| start)
            .collect();
        assert_eq!(given, [0x55a0, 0x55b0, 0x7f00, 0x7f10]);
    }

    #[test]
    fn we_live_on() {
        trim_code();
        trim_code();
    }
}
