//! The scope that systemd gives on a desktop, from a systemd that is played here: programs of its names make the cgroup and
//! move the process. What the real one does beyond that is not tested.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Words that `dewar` says to `busctl`, by their place: who is asked, the scope's name, its process.
const BUSCTL: &str = r#"#!/bin/bash
set -e
echo "$*" >> "${0%/*}/asked"
if [ -e "${0%/*}/refusal" ]; then cat "${0%/*}/refusal" >&2; exit 1; fi
mkdir "/sys/fs/cgroup/$8"
echo "${17}" > "/sys/fs/cgroup/$8/cgroup.procs"
"#;

/// The job is done when `busctl` is.
const SYSTEMCTL: &str = "#!/bin/bash
[ \"$*\" = \"--system --no-ask-password start $(tail -n 1 \"${0%/*}/asked\" | cut -d ' ' -f 8)\" ]
";

/// Where the programs are, and what was asked of them.
pub struct Played {
    directory: PathBuf,
}

impl Played {
    pub fn new(bench: &Path) -> Played {
        let directory = bench.join("systemd");
        fs::create_dir(&directory).expect("a directory");
        for (name, script) in [("busctl", BUSCTL), ("systemctl", SYSTEMCTL)] {
            // By another process: a file that is open for writing here, or in a child of another test, cannot be run.
            let written = Command::new("bash")
                .args([
                    "-c",
                    "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"",
                    "bash",
                ])
                .arg(script)
                .arg(directory.join(name))
                .status();
            assert!(written.expect("bash").success());
        }
        Played { directory }
    }

    /// From now on it says no.
    pub fn refuse(&self, words: &str) {
        fs::write(self.directory.join("refusal"), words).expect("a refusal");
    }

    /// The PATH with these programs before all others.
    pub fn path(&self) -> String {
        let others = std::env::var("PATH").expect("a PATH");
        format!("{}:{others}", self.directory.display())
    }

    /// What was asked, a line each.
    pub fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The groups that were made.
    pub fn scopes(&self) -> Vec<PathBuf> {
        let name = |line: &String| line.split(' ').nth(7).expect("a name").to_owned();
        let asked = self.asked();
        let names = asked.iter().map(name);
        names
            .map(|name| Path::new("/sys/fs/cgroup").join(name))
            .collect()
    }
}
