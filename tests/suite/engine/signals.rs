//! A signal that a client asked for is sent once, whoever of ours dies over it.

use std::fs;

use crate::{
    crash::id,
    support::{
        Bench,
        tracer::{Kill, Role, Traced, trace},
    },
};

/// How many system calls of the keeper on both sides of the one that sends are tried.
const AROUND: u64 = 12;

/// Runs a task that asks for a signal to itself and waits for that; returns what was traced, how
/// many signals were asked for, and how many came.
fn signalled(kill: Option<Kill>) -> (Traced, usize, usize) {
    let bench = Bench::new();
    let id = id(&bench);
    let dewar = env!("CARGO_BIN_EXE_dewar");
    let root = bench.root().display().to_string();
    let script = format!(
        r#"
      trap 'echo got >> got' USR1
      {dewar} --root {root} signal {id} main USR1 > told 2>&1 &
      while kill -0 $!; do sleep 0.02; done 2>/dev/null
      # What was not recorded is not sent; the client has said so.
      for i in $(seq 600); do
        if [ -e got ]; then break; fi
        if grep -q 'died over it' told && ! {dewar} --root {root} status {id} --format json | grep -q 'SIGUSR1 requested'; then break; fi
        sleep 0.05
      done
      sleep 0.3"#
    );
    let task = format!("processes:\n  - name: main\n    cmdline: |{script}\n");
    let file = bench.file("t.yaml", &task).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id]);
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let traced = trace(command, kill);
    let status = bench.task(&id).expect("the task");
    assert_eq!(traced.code, Some(0), "{kill:?} {status:#}");
    let asked = status["notices"]
        .to_string()
        .matches("SIGUSR1 requested")
        .count();
    let got = fs::read_to_string(bench.sandbox(&id).join("got")).unwrap_or_default();
    (traced, asked, got.lines().count())
}

#[test]
fn a_signal_is_sent_once_whichever_call_of_the_keeper_is_its_last() {
    /// How many system calls there are before the signal differs from run to run.
    const SWEEPS: usize = 5;
    assert!(
        (0..SWEEPS).any(|_| is_sent_by_a_successor()),
        "no signal was left for a successor"
    );
}

/// Kills the keeper before each of its calls around the signal; true when a successor has sent one.
fn is_sent_by_a_successor() -> bool {
    let (undisturbed, asked, got) = signalled(None);
    assert_eq!((asked, got), (1, 1));
    let sends = undisturbed.signalled.expect("a signal");
    let mut sent_by_successors = 0;
    for before in sends - AROUND..=sends + AROUND {
        let kill = Kill {
            role: Role::Keeper,
            before,
            root_too: false,
        };
        let (traced, asked, got) = signalled(Some(kill));
        assert_eq!(
            got, asked,
            "killed before call {before}; the signal is call {sends}"
        );
        let was_sent = traced.signalled.is_some_and(|call| call < before);
        sent_by_successors += u32::from(traced.killed && got == 1 && !was_sent);
    }
    sent_by_successors > 0
}
