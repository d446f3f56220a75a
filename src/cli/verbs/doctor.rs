//! `dewar doctor`: prints what this machine can enforce, as which user, by which mechanism, and how
//! to get what is missing. What it tries out leaves nothing behind.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::StatusFormat,
        terminal::{Colour, Style, harmless, put},
    },
    engine::runner::check_isolation,
    resources::{Mechanism, Survey, tracking},
    sandbox::{Account, private::landlock_abi},
    task::{Isolation, Level, Task},
};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

/// One limit or kind of isolation, and whether it can be enforced.
struct Finding {
    what: String,
    mechanism: Mechanism,
}

struct Report {
    user: Account,
    kernel: String,
    limits: Vec<Finding>,
    isolation: Vec<Finding>,
    /// What tells the processes of a run.
    processes: Vec<Finding>,
    hints: Vec<String>,
}

pub(crate) fn doctor(args: &DoctorArgs) -> Outcome {
    let report = examine().map_err(Failure::internal)?;
    let text = match args.format {
        StatusFormat::Json => {
            let text = serde_json::to_string_pretty(&for_programs(&report));
            text.map_err(|error| Failure::new(Code::Internal, error))? + "\n"
        }
        StatusFormat::Text => for_people(&report, Style::of(&std::io::stdout())),
    };
    put(&mut std::io::stdout(), text.as_bytes());
    Ok(Code::Success)
}

fn examine() -> std::io::Result<Report> {
    let user = Account::own();
    let is_root = user.uid == 0;
    let survey = Survey::take();
    let mut limits: Vec<Finding> = survey
        .rows()
        .into_iter()
        .map(|row| Finding {
            what: row.what.to_owned(),
            mechanism: row.mechanism,
        })
        .collect();
    let by = |what: &str, how: &str| Finding {
        what: what.to_owned(),
        mechanism: Mechanism::By(how.to_owned()),
    };
    limits.push(match is_root {
        true => by("rlimits", "setrlimit; hard limits may be raised"),
        false => by("rlimits", "setrlimit; up to the hard limits that you have"),
    });
    limits.push(match is_root {
        true => by("nice", "setpriority, from -20 to 19"),
        false => by("nice", "setpriority; upwards only, without root"),
    });
    limits.push(match is_root {
        true => by("oom_score_adj", "/proc, from -1000 to 1000"),
        false => by("oom_score_adj", "/proc; upwards only, without root"),
    });
    limits.push(by(
        "disk",
        "a walk through the sandbox every 2 s or less often; of the task, with --enforce-task",
    ));
    limits.push(Finding {
        what: "gpu".to_owned(),
        mechanism: Mechanism::Missing("devices are the container's to give".to_owned()),
    });
    let isolation = isolation(is_root)?;
    let hints = hints(&survey, &isolation, is_root);
    Ok(Report {
        user,
        kernel: kernel(),
        limits,
        isolation,
        processes: vec![Finding {
            what: "of a run".to_owned(),
            mechanism: tracking_mechanism(),
        }],
        hints,
    })
}

/// What tells which processes are a run's, wherever they went.
fn tracking_mechanism() -> Mechanism {
    match tracking() {
        Ok(place) => Mechanism::By(format!(
            "a cgroup for every run, below {}",
            place.base.display()
        )),
        Err(why) => Mechanism::Missing(format!(
            "{why}; by session and parent instead: what left both lives until its task ends"
        )),
    }
}

fn isolation(is_root: bool) -> std::io::Result<Vec<Finding>> {
    let finding = |what: &str, mechanism| Finding {
        what: what.to_owned(),
        mechanism,
    };
    let scratch = tempfile::tempdir()?;
    let mut task = Task::of("doctor".to_owned(), Vec::new());
    task.isolation = Isolation {
        level: Level::Private,
        without: Vec::new(),
    };
    let private = match check_isolation(&task, scratch.path()) {
        Ok(()) if is_root => {
            Mechanism::By("mount, pid, ipc and uts namespaces, as root".to_owned())
        }
        Ok(()) => Mechanism::By("the same namespaces within a user namespace".to_owned()),
        Err(why) => Mechanism::Missing(why.to_string()),
    };
    let landlock = match landlock_abi() {
        0 => Mechanism::Missing(
            "this kernel has no landlock (Linux 5.13, and lsm=landlock at its start)".to_owned(),
        ),
        version => Mechanism::By(format!("landlock, version {version}")),
    };
    let seccomp = match std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        true => Mechanism::By("seccomp filters".to_owned()),
        false => Mechanism::Missing("this kernel has no seccomp filters".to_owned()),
    };
    Ok(vec![
        finding("directory", Mechanism::By("always".to_owned())),
        finding("private", private),
        finding("  seccomp", seccomp),
        finding("  landlock", landlock),
    ])
}

fn hints(survey: &Survey, isolation: &[Finding], is_root: bool) -> Vec<String> {
    let mut hints = Vec::new();
    let lacks_groups = survey
        .rows()
        .iter()
        .any(|row| row.what == "cpu" && matches!(row.mechanism, Mechanism::Missing(_)));
    if lacks_groups && survey.hierarchies.could_be_delegated() {
        hints.push(
            "cgroups: dewar asks systemd for a delegated scope by itself. Where that fails, start it in one: \
             systemd-run --user --scope -p Delegate=yes dewar run FILE"
                .to_owned(),
        );
        hints.push(
            "systemd gives people cpu, memory and pids only if told so: \
             systemctl edit user@.service, [Service] Delegate=cpu memory pids io"
                .to_owned(),
        );
    } else if lacks_groups && !is_root {
        hints.push(
            "cgroups: this machine has cgroup v1, which is root's. Run dewar as root (with `user:` in the task), \
             or boot with systemd.unified_cgroup_hierarchy=1"
                .to_owned(),
        );
    }
    let lacks_private = isolation
        .iter()
        .any(|one| one.what == "private" && matches!(one.mechanism, Mechanism::Missing(_)));
    if lacks_private && !is_root {
        hints.push(
            "private: people need user namespaces; see user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns (sysctl)"
                .to_owned(),
        );
    }
    hints
}

fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn for_people(report: &Report, style: Style) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Linux {}, as {} (uid {})",
        harmless(&report.kernel),
        harmless(&report.user.name),
        report.user.uid
    );
    let parts = [
        ("limits", &report.limits),
        ("isolation", &report.isolation),
        ("processes", &report.processes),
    ];
    for (title, findings) in parts {
        let _ = writeln!(text, "\n{title}");
        for finding in findings {
            let (mark, how) = match &finding.mechanism {
                Mechanism::By(how) => (style.paint(Colour::Green, "yes"), how),
                Mechanism::Missing(why) => (style.paint(Colour::Red, "no "), why),
            };
            let _ = writeln!(text, "  {:14} {mark}  {}", finding.what, harmless(how));
        }
    }
    if !report.hints.is_empty() {
        let _ = writeln!(text, "\nhow to get more");
        for hint in &report.hints {
            let _ = writeln!(text, "  {hint}");
        }
    }
    text
}

fn for_programs(report: &Report) -> serde_json::Value {
    let list = |findings: &[Finding]| -> Vec<serde_json::Value> {
        let each = findings.iter().map(|finding| match &finding.mechanism {
            Mechanism::By(how) => {
                json!({"what": finding.what.trim(), "available": true, "mechanism": how, "missing": null})
            }
            Mechanism::Missing(why) => {
                json!({"what": finding.what.trim(), "available": false, "mechanism": null, "missing": why})
            }
        });
        each.collect()
    };
    json!({
        "kernel": report.kernel,
        "user": report.user.name,
        "uid": report.user.uid,
        "limits": list(&report.limits),
        "isolation": list(&report.isolation),
        "processes": list(&report.processes),
        "hints": report.hints,
    })
}
