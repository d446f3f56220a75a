//! A person's own systemd, as a login starts it: the real one, with a bus, in a cgroup that is
//! delegated to the person. Its programs are in the virtual machine (`vm.rs`).

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    cgroups::{put, remove_groups},
    wait_for,
};

/// The bus of a session, open to its person.
const BUS: &str = r#"<busconfig>
  <type>session</type>
  <listen>systemd:</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// systemd goes to the bus when the units of these names run.
const UNITS: [(&str, &str); 5] = [
    ("dbus.socket", "[Socket]\nListenStream=%t/bus\n"),
    (
        "dbus.service",
        "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nExecStart=/bin/dbus-daemon --config-file=%t/bus.conf \
         --nofork --nopidfile --systemd-activation\n",
    ),
    (
        "default.target",
        "[Unit]\nRequires=dbus.service\nAfter=dbus.service\n",
    ),
    ("basic.target", "[Unit]\n"),
    ("shutdown.target", "[Unit]\n"),
];

/// It ends with all that it started when this is dropped.
pub struct Systemd {
    runtime: PathBuf,
    group: PathBuf,
    manager: Child,
}

impl Systemd {
    /// Starts it for `uid` in `group`, which becomes that person's.
    pub fn start(bench: &Path, group: &Path, uid: u32) -> Systemd {
        // Without it, it would not run on a machine that another init has booted.
        fs::create_dir_all("/run/systemd/system").expect("a machine of our own");
        for name in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            chown(group.join(name), Some(uid), Some(uid)).expect("chown");
        }
        let runtime = bench.join("runtime");
        fs::create_dir_all(runtime.join("units")).expect("a directory");
        chown(&runtime, Some(uid), Some(uid)).expect("chown");
        fs::write(runtime.join("bus.conf"), BUS).expect("a file");
        for (name, text) in UNITS {
            fs::write(runtime.join("units").join(name), text).expect("a unit");
        }
        let mut manager = Command::new("/lib/systemd/systemd");
        manager
            .args(["--user", "--log-target=console"])
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("SYSTEMD_UNIT_PATH", runtime.join("units"))
            .env("HOME", &runtime)
            .stdin(Stdio::null());
        put(&mut manager, group, uid);
        let systemd = Systemd {
            manager: manager.spawn().expect("systemd"),
            group: group.to_path_buf(),
            runtime,
        };
        wait_for("systemd to be on its bus", || {
            let status = Command::new("busctl")
                .args(["--user", "status", "org.freedesktop.systemd1"])
                .env("XDG_RUNTIME_DIR", &systemd.runtime)
                .uid(uid)
                .gid(uid)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.expect("busctl").success().then_some(())
        });
        systemd
    }

    /// Where its sockets are: XDG_RUNTIME_DIR.
    pub fn runtime(&self) -> String {
        self.runtime.display().to_string()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        fs::write(self.group.join("cgroup.kill"), "1").expect("killed");
        self.manager.wait().expect("reaped");
        for entry in fs::read_dir(&self.group).expect("the group").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_groups(&entry.path());
            }
        }
    }
}
