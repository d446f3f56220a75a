//! A chain on a disk that takes five milliseconds for every sync: a library is loaded before ours
//! that waits so long, and counts.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Bench, quiet, row, time};

/// What the library does. It appends a byte to a file for each sync, so that syncs are counted.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static int slow(const char *name, int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    struct timespec wait = {0, atol(getenv("BENCH_SYNC_US")) * 1000};
    int log = open(getenv("BENCH_SYNCS"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log >= 0) { if (write(log, ".", 1) != 1) abort(); close(log); }
    nanosleep(&wait, 0);
    return real(fd);
}
int fdatasync(int fd) { return slow("fdatasync", fd); }
int fsync(int fd) { return slow("fsync", fd); }
"#;
const STEPS: usize = 100;
/// How long a sync takes, microseconds.
const SYNC_US: u64 = 5_000;

impl Bench {
    /// A chain of 100 processes with syncs of five milliseconds, and how many syncs it made.
    pub fn slow_disk(&self) {
        let (source, library) = (self.path().join("slow.c"), self.path().join("slow.so"));
        fs::write(&source, LIBRARY).expect("a file");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library);
        compiler.arg(&source).stderr(Stdio::inherit());
        if !compiler.status().is_ok_and(|status| status.success()) {
            println!("a step on a slow disk: not measured (it needs cc)");
            return;
        }
        let mut processes = Self::processes(STEPS, "true");
        for process in &mut processes {
            *process = serde_json::json!({"name": process["name"], "argv": ["/bin/true"]});
        }
        let order: Vec<Value> = processes.iter().map(|one| one["name"].clone()).collect();
        let task = serde_json::json!({"processes": processes, "constraints": [{"order": order}]});
        let file = self.task("slow", &task);
        let syncs = self.path().join("syncs");
        let mut command: Command = self.dewar();
        command.arg("run").arg(&file).env("LD_PRELOAD", &library);
        command.env("BENCH_SYNCS", &syncs);
        command.env("BENCH_SYNC_US", SYNC_US.to_string());
        let step = time(quiet(&mut command)) / STEPS as f64;
        let floor = SYNC_US as f64 / 1000.0;
        let count = fs::read(&syncs).map_or(0, |marks| marks.len());
        let what = "a step of a chain, 5 ms a sync";
        row(what, step, "ms", Some(("one sync", floor)), "<= 6.5 ms");
        let each = count as f64 / STEPS as f64;
        row("syncs of a step", each, "", Some(("one", 1.0)), "<= 1.05");
    }
}
