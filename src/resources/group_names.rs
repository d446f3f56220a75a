//! Names of groups: of tasks and runs, as names of directories that the kernel takes.
//!
//! Two different tasks or processes never have the same name.

use super::cgroupfs::{OWN_LEAF, PREFIX};

/// Bytes of a name; the kernel takes 255, and numbers may be added.
const LONGEST: usize = 200;

/// The name of a task's group.
pub fn group_name(task_id: &str) -> String {
    let name = format!("{PREFIX}{}", plain(task_id));
    // That one is the group of dewar's own processes.
    match name == OWN_LEAF {
        true => format!("{name}-task"),
        false => name,
    }
}

/// `text` as a name: without `/` and control characters, and not too long.
pub(super) fn plain(text: &str) -> String {
    let is_plain = text.len() <= LONGEST && !text.chars().any(|c| c.is_control() || c == '/');
    if is_plain {
        return text.to_owned();
    }
    let clean = text.chars().map(|c| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    let mut name = String::new();
    for c in clean {
        if name.len() + c.len_utf8() > LONGEST {
            break;
        }
        name.push(c);
    }
    // Two texts that differ only in what was left out have different names.
    format!("{name}-{:08x}", crc32c::crc32c(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes() {
        assert_eq!(group_name("web-1"), "dewar.web-1");
        let strange = group_name("a\nb");
        assert!(strange.starts_with("dewar.a_b-"), "{strange}");
        assert_ne!(group_name("a\nb"), group_name("a\tb"));
        let long = "ü".repeat(200);
        assert!(group_name(&long).len() < 255);
    }
}
