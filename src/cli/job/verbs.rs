//! The verbs of `dewar job`: each asks the scheduler for something, and may follow the job until
//! that is reached.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    args::{FollowArgs, JobArgs, JobFormat, JobVerb, QuotaArgs},
    client::{Client, Followed, quoted},
    file::submission,
    progress::{Goal, Progress},
    show,
};
use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        terminal::{harmless, harmless_json, print},
    },
    mesos::scheduler::{QuotaBody, parse_instances},
};

/// The client waits so long for a scheduler that is away.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause between two attempts to reach the scheduler.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) fn job(args: JobArgs, root: &Path) -> Outcome {
    let client = Client::new(args.scheduler, args.token_file, root)?;
    let mut verb = args.verb;
    if let Some(job) = verb.job_mut() {
        *job = whole_key(&client, job)?;
    }
    match verb {
        JobVerb::Create(args) => {
            let (submission, _) = submission(&args.file)?;
            let begun = client.ask(Method::POST, "/jobs", Some(&json!(submission)))?;
            follow(&client, &begun, &args.follow, Goal::Settled)
        }
        JobVerb::Update(args) => {
            check(args.instances.as_deref())?;
            let (mut submission, _) = submission(&args.file)?;
            (submission.instances, submission.force) = (args.instances, args.force);
            let begun = client.ask(Method::PUT, "/jobs", Some(&json!(submission)))?;
            follow(&client, &begun, &args.follow, Goal::Updated)
        }
        JobVerb::Restart(args) => {
            check(args.instances.as_deref())?;
            let body = json!({"instances": args.instances});
            let begun = ask_job(&client, &args.job, "restart", Some(&body))?;
            follow(&client, &begun, &args.follow, Goal::Updated)
        }
        JobVerb::Kill(args) => {
            let only = check(args.instances.as_deref())?;
            let body = json!({"instances": args.instances});
            let begun = ask_job(&client, &args.job, "kill", Some(&body))?;
            let goal = if only { Goal::Settled } else { Goal::Gone };
            follow(&client, &begun, &args.follow, goal)
        }
        JobVerb::Scale(args) => {
            let body = json!({"count": args.count});
            let begun = ask_job(&client, &args.job, "scale", Some(&body))?;
            follow(&client, &begun, &args.follow, Goal::Settled)
        }
        JobVerb::Pause(args) => said(
            &ask_job(&client, &args.job, "pause", None)?,
            JobFormat::Text,
        ),
        JobVerb::Resume(args) => said(
            &ask_job(&client, &args.job, "resume", None)?,
            JobFormat::Text,
        ),
        JobVerb::Abort(args) => said(
            &ask_job(&client, &args.job, "abort", None)?,
            JobFormat::Text,
        ),
        JobVerb::Drain(args) => {
            let path = format!("/agents/{}/drain", named("host", &args.host)?);
            let body = json!({"over": args.over});
            said(
                &client.ask(Method::POST, &path, Some(&body))?,
                JobFormat::Text,
            )
        }
        JobVerb::Status(args) => match &args.job {
            Some(job) => {
                let answer = client.ask(Method::GET, &path_of(job), None)?;
                shown(&answer, args.format, show::job)
            }
            None => {
                let answer = client.ask(Method::GET, "/jobs", None)?;
                shown(&answer, args.format, show::jobs)
            }
        },
        JobVerb::Watch(args) => {
            let progress = Progress::new(Goal::Never, args.format);
            watch(&client, &args.job, progress)
        }
        JobVerb::Agents(args) => {
            let answer = client.ask(Method::GET, "/agents", None)?;
            shown(&answer, args.format, show::agents)
        }
        JobVerb::Quota(args) => quota(&client, &args),
    }
}

/// The key of the only job with the name `job`; a key stays as it is.
fn whole_key(client: &Client, job: &str) -> Result<String, Failure> {
    if job.contains('/') {
        let parts: Vec<&str> = job.split('/').collect();
        let is_key = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        return match is_key {
            true => Ok(job.to_owned()),
            false => Err(Failure::rejected(format!("{job:?} is no key of a job"))
                .hint("as in ROLE/ENVIRONMENT/NAME, or just NAME")),
        };
    }
    let answer = client.ask(Method::GET, "/jobs", None)?;
    let jobs = answer["jobs"].as_array().map_or(&[][..], Vec::as_slice);
    let keys = jobs.iter().filter_map(|job| job["key"].as_str());
    let all: Vec<&str> = keys.collect();
    let named = |key: &&&str| key.rsplit('/').next() == Some(job);
    let found: Vec<&&str> = all.iter().filter(named).collect();
    match found.as_slice() {
        [key] => Ok((**key).to_owned()),
        [] => {
            let failure = Failure::new(Code::Failed, format!("there is no job {job}"));
            Err(match all.as_slice() {
                [] => failure.hint("there are no jobs at all"),
                _ => failure.hint(format!("there are {}", all[..all.len().min(5)].join(", "))),
            })
        }
        several => {
            let keys: Vec<&str> = several.iter().map(|key| **key).collect();
            Err(
                Failure::rejected(format!("{job} may be {}", keys.join(" or ")))
                    .hint("write the whole key: ROLE/ENVIRONMENT/NAME"),
            )
        }
    }
}

fn path_of(job: &str) -> String {
    let parts: Vec<String> = job.split('/').map(quoted).collect();
    format!("/jobs/{}", parts.join("/"))
}

/// `name` as one step of a path; `what` says in an error what it is the name of.
fn named(what: &str, name: &str) -> Result<String, Failure> {
    match name.is_empty() || name.contains('/') {
        true => Err(Failure::rejected(format!("{name:?} is no {what}"))),
        false => Ok(quoted(name)),
    }
}

/// Checks a list of instances; true when there is one.
fn check(instances: Option<&str>) -> Result<bool, Failure> {
    let parsed = instances.map(parse_instances).transpose();
    Ok(parsed.map_err(Failure::rejected)?.is_some())
}

fn ask_job(client: &Client, job: &str, verb: &str, body: Option<&Value>) -> Result<Value, Failure> {
    client.ask(Method::POST, &format!("{}/{verb}", path_of(job)), body)
}

fn said(answer: &Value, format: JobFormat) -> Outcome {
    match format {
        JobFormat::Json => print(&harmless_json(answer)),
        JobFormat::Text => print(&harmless(answer["message"].as_str().unwrap_or_default())),
    }
    Ok(Code::Success)
}

fn shown(
    answer: &Value,
    format: JobFormat,
    show: impl FnOnce(&Value) -> Result<(), Failure>,
) -> Outcome {
    match format {
        JobFormat::Json => print(&harmless_json(answer)),
        JobFormat::Text => show(answer)?,
    }
    Ok(Code::Success)
}

/// Prints what has begun, and shows the progress until the goal is reached.
fn follow(client: &Client, begun: &Value, args: &FollowArgs, goal: Goal) -> Outcome {
    let Some(key) = begun["key"].as_str() else {
        // What was asked for is done already.
        return said(begun, args.format);
    };
    match args.format {
        JobFormat::Json if args.detach => print(&harmless_json(begun)),
        JobFormat::Json => {}
        JobFormat::Text => {
            let message = begun["message"].as_str().unwrap_or_default();
            print(&harmless(&format!("{key}: {message}")));
        }
    }
    if args.detach {
        return Ok(Code::Success);
    }
    watch(client, key, Progress::new(goal, args.format))
}

/// Shows the progress of a job. A scheduler that is away may come back, or another may take its
/// place.
fn watch(client: &Client, key: &str, mut progress: Progress) -> Outcome {
    let path = format!("{}/watch", path_of(key));
    let mut away = None;
    loop {
        let mut ended = None;
        let mut has_heard = false;
        let followed = client.follow(&path, |line| {
            has_heard = true;
            ended = progress.line(line)?;
            Ok(ended.is_some())
        });
        if let Some(code) = ended {
            progress.end();
            return Ok(code);
        }
        let failure = match followed {
            // The job was gone before the watch began: the scheduler's last line, in its place.
            Ok(Followed::Unknown(_)) if progress.is_for_its_end() => {
                let gone = json!({"key": key, "gone": true});
                progress.line(gone.to_string().as_bytes())?;
                progress.end();
                return Ok(Code::Success);
            }
            Ok(Followed::Unknown(failure)) => {
                progress.end();
                return Err(failure);
            }
            Ok(Followed::Ended) => Failure::new(Code::Failed, "the scheduler went away"),
            Err(failure) => failure,
        };
        if has_heard {
            away = None;
        }
        let since = *away.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE || failure.code != Code::Failed {
            progress.end();
            return Err(failure.hint(format!(
                "what was asked for goes on as soon as a scheduler is back; see: dewar job watch {key}"
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

fn quota(client: &Client, args: &QuotaArgs) -> Outcome {
    let is_set = args.cpu.is_some() || args.ram.is_some() || args.disk.is_some();
    match &args.role {
        Some(role) if args.remove => {
            let path = format!("/quotas/{}", named("role", role)?);
            said(&client.ask(Method::DELETE, &path, None)?, args.format)
        }
        Some(role) if is_set || args.gpu.is_some() => {
            if args.cpu.is_some_and(|cpu| !cpu.is_finite()) {
                return Err(Failure::rejected("--cpu is no number"));
            }
            let body = QuotaBody {
                cpu: args.cpu,
                ram: args.ram,
                disk: args.disk,
                gpu: args.gpu,
            };
            let path = format!("/quotas/{}", named("role", role)?);
            said(
                &client.ask(Method::PUT, &path, Some(&json!(body)))?,
                args.format,
            )
        }
        _ => {
            let answer = client.ask(Method::GET, "/quotas", None)?;
            shown(&answer, args.format, show::quotas)
        }
    }
}
