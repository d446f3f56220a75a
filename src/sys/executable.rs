//! Where this program is, to execute it again.

use std::path::Path;

/// The image of the present program, also when its file has been replaced.
pub const ITSELF: &str = "/proc/self/exe";

/// What to execute for a new root or runner: a path, so that a binary that was replaced is executed
/// in its new version; the present image when there is nothing at that path.
pub fn executable() -> String {
    let Ok(path) = std::env::current_exe() else {
        return ITSELF.to_owned();
    };
    // A binary that replaced a deleted one has its path.
    let path = path.display().to_string();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    match Path::new(path).exists() {
        true => path.to_owned(),
        false => ITSELF.to_owned(),
    }
}
