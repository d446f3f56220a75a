//! Single decisions.

use crate::config::{Job, JobSource};

/// A job of one small service, with these fields more.
pub(super) fn job(more: &str) -> Job {
    let text = format!(
        "name: web\nservice: true\n{more}\ntask: {{resources: {{cpu: 1, ram: 128MiB, disk: 64MiB}}, processes: [{{name: a, cmdline: sleep 1}}]}}\n"
    );
    let source = JobSource {
        job: &text,
        role: "www",
        ..JobSource::default()
    };
    match Job::read(&source) {
        Ok((job, _)) => job,
        Err(mistakes) => panic!("{}", mistakes.diagnostics.render(&text, "job", false)),
    }
}
