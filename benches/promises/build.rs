//! What the README's first command costs from an empty target, and what a one-line change costs.
//!
//! It takes minutes and needs the registry's crates, so it runs only when it is asked for:
//! `cargo bench -- build`. Its floor is the dependencies alone: what dewar's own code adds to them
//! is the second row.

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Instant, SystemTime},
};

use nix::sys::resource::{UsageWho, getrusage};

use super::{Bench, quiet, row};

/// CPU time of all children that have ended, seconds.
fn spent() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let seconds = |time: nix::sys::time::TimeVal| {
        time.tv_sec() as f64 + f64::from(i32::try_from(time.tv_usec()).unwrap_or_default()) / 1e6
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

impl Bench {
    /// Builds as the README's first command does, and runs the smallest task.
    fn first_command(&self, target: &Path) -> (f64, f64) {
        let (began, before) = (Instant::now(), spent());
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(project)
            .args(["run", "--locked", "--", "run", "fixtures/hello.yaml"])
            .env("CARGO_TARGET_DIR", target)
            .env("DEWAR_ROOT", self.path().join("first"));
        assert!(quiet(&mut command).status().expect("cargo").success());
        ((spent() - before) / 60.0, began.elapsed().as_secs_f64())
    }

    pub fn build(&self) {
        let target = self.path().join("target");
        let (all, wall) = self.first_command(&target);
        // What every file of dewar imports is built anew; the dependencies are not.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
        let file = File::options().append(true).open(root).expect("src/lib.rs");
        file.set_modified(SystemTime::now()).expect("touched");
        let (own, change) = self.first_command(&target);
        let floor = Some(("dependencies", all - own));
        row(
            "the first command, empty target: CPU",
            all,
            "min",
            floor,
            "<= 4 min",
        );
        row("the same, elapsed", wall, "s", None, "no promise");
        row(
            "a one-line change, built and run",
            change,
            "s",
            None,
            "<= 10 s",
        );
    }
}
