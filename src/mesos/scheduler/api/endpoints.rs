//! What may be asked: from a method, a path and a body to a question. Pure.
//!
//! * `GET /jobs`: all jobs, without their instances; `POST /jobs` creates a job, `PUT /jobs`
//!   updates one.
//! * `GET /jobs/ROLE/ENVIRONMENT/NAME`: one job, with its instances.
//! * `GET /jobs/ROLE/ENVIRONMENT/NAME/watch`: a line of JSON now and at every change, until it is
//!   gone.
//! * `POST /jobs/ROLE/ENVIRONMENT/NAME/VERB`: `kill`, `restart` (`{"instances": "0-2"}`), `scale`
//!   (`{"count": 5}`), `pause`, `resume`, `abort`.
//! * `GET /agents`: all agents; `POST /agents/HOST/drain` drains a host, `{"over": true}` ends
//!   that.
//! * `GET /quotas`: all quotas; `PUT /quotas/ROLE` sets one (any of `{"cpu": 4, "ram": "8GiB",
//!   "disk": "10GiB", "gpu": 0}`), `DELETE /quotas/ROLE` removes it.
//! * `GET /status` for programs, `GET /metrics` for Prometheus.
//!
//! Nothing that a client sends is ignored: a field, a query or a body that the request does not
//! have is a mistake, and a request with a mistake does nothing.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};

use super::{
    bad_request::Refused,
    bodies::{Count, Instances, Nothing, Over, QuotaBody, Submission, amounts, numbers},
    strict::{body, body_or_nothing},
};
use crate::{config::near_name, mesos::scheduler::core::Request, task::is_name};

/// The first parts of all paths.
const ROOTS: [&str; 5] = ["jobs", "agents", "quotas", "status", "metrics"];
/// What a job can be asked to do, each with POST.
const JOB_VERBS: [&str; 6] = ["kill", "restart", "scale", "pause", "resume", "abort"];

/// A path with a method that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Status,
    Metrics,
    Jobs,
    Agents,
    Quotas,
    Job(String),
    Watch(String),
    Create,
    Update,
    Kill(String),
    Restart(String),
    Scale(String),
    Pause(String),
    Resume(String),
    Abort(String),
    Drain(String),
    SetQuota(String),
    RemoveQuota(String),
}

/// What a request asks.
#[derive(Debug)]
pub(super) enum Question {
    Status,
    Metrics,
    Jobs,
    Agents,
    Quotas,
    Job(String),
    Watch(String),
    /// The job's files are still to be read, as are those of an update.
    Create(Submission),
    /// Of these instances; none means all.
    Update(Submission, BTreeSet<u32>),
    Request(Request),
}

impl Endpoint {
    /// Finds the endpoint, or says what there is instead.
    pub(super) fn find(
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<Endpoint, Refused> {
        let path = decoded(path);
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let there = endpoints(&parts, &path)?;
        let allow: Vec<Method> = there.iter().map(|(method, _)| method.clone()).collect();
        let mut there = there.into_iter();
        let Some((_, endpoint)) = there.find(|(known, _)| known == method) else {
            let names: Vec<&str> = allow.iter().map(Method::as_str).collect();
            let why = format!("{method} cannot be used with {path}");
            let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, why);
            let refused = refused.hint(format!("use {}", names.join(" or ")));
            return Err(Refused { allow, ..refused });
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            let why = format!("{method} {path} takes no parameters, but the query is `{query}`");
            let refused = Refused::new(StatusCode::BAD_REQUEST, why);
            return Err(refused.hint("fields go into the request's body, as JSON"));
        }
        Ok(endpoint)
    }

    /// Reads the request's body, all of it.
    pub(super) fn question(self, bytes: &[u8]) -> Result<Question, Refused> {
        let bare = |question| {
            let Nothing {} = body_or_nothing(bytes)?;
            Ok(question)
        };
        match self {
            Endpoint::Status => bare(Question::Status),
            Endpoint::Metrics => bare(Question::Metrics),
            Endpoint::Jobs => bare(Question::Jobs),
            Endpoint::Agents => bare(Question::Agents),
            Endpoint::Quotas => bare(Question::Quotas),
            Endpoint::Job(key) => bare(Question::Job(key)),
            Endpoint::Watch(key) => bare(Question::Watch(key)),
            Endpoint::Create => Ok(Question::Create(new_job(bytes)?)),
            Endpoint::Update => {
                let submission: Submission = body(bytes)?;
                let only = numbers(submission.instances.as_deref())?;
                Ok(Question::Update(submission, only))
            }
            Endpoint::Kill(key) => asked(Request::Kill(key, some(bytes)?)),
            Endpoint::Restart(key) => asked(Request::Restart(key, some(bytes)?)),
            Endpoint::Scale(key) => asked(Request::Scale(key, body::<Count>(bytes)?.count)),
            Endpoint::Pause(key) => bare(Question::Request(Request::Pause(key))),
            Endpoint::Resume(key) => bare(Question::Request(Request::Resume(key))),
            Endpoint::Abort(key) => bare(Question::Request(Request::Abort(key))),
            Endpoint::Drain(host) => asked(match body_or_nothing::<Over>(bytes)?.over {
                true => Request::Undrain { host },
                false => Request::Drain { host },
            }),
            Endpoint::SetQuota(role) => asked(set_quota(role, bytes)?),
            Endpoint::RemoveQuota(role) => bare(Question::Request(Request::Quota(role, None))),
        }
    }
}

fn asked(request: Request) -> Result<Question, Refused> {
    Ok(Question::Request(request))
}

/// The files of a job to create.
fn new_job(bytes: &[u8]) -> Result<Submission, Refused> {
    let submission: Submission = body(bytes)?;
    let field = match (&submission.instances, submission.force) {
        (Some(_), _) => "instances",
        (None, true) => "force",
        (None, false) => return Ok(submission),
    };
    let why = format!("the field `{field}` is for updates only");
    let refused = Refused::new(StatusCode::BAD_REQUEST, why);
    Err(refused.hint("POST /jobs creates a job, PUT /jobs updates one"))
}

fn set_quota(role: String, bytes: &[u8]) -> Result<Request, Refused> {
    if !is_name(&role) {
        let why = format!("{role:?} is no role: letters, digits, `_`, `-` and `.`");
        return Err(Refused::new(StatusCode::BAD_REQUEST, why));
    }
    let limits = amounts(&body::<QuotaBody>(bytes)?)?;
    Ok(Request::Quota(role, Some(limits)))
}

/// The instances that a body names; none means all.
fn some(bytes: &[u8]) -> Result<BTreeSet<u32>, Refused> {
    numbers(body_or_nothing::<Instances>(bytes)?.instances.as_deref())
}

/// The endpoints of a path, by their methods.
fn endpoints(parts: &[&str], path: &str) -> Result<Vec<(Method, Endpoint)>, Refused> {
    Ok(match parts {
        ["status"] => vec![(Method::GET, Endpoint::Status)],
        ["metrics"] => vec![(Method::GET, Endpoint::Metrics)],
        ["agents"] => vec![(Method::GET, Endpoint::Agents)],
        ["quotas"] => vec![(Method::GET, Endpoint::Quotas)],
        ["jobs"] => vec![
            (Method::GET, Endpoint::Jobs),
            (Method::POST, Endpoint::Create),
            (Method::PUT, Endpoint::Update),
        ],
        ["jobs", role, environment, name] => {
            let key = format!("{role}/{environment}/{name}");
            vec![(Method::GET, Endpoint::Job(key))]
        }
        ["jobs", role, environment, name, "watch"] => {
            let key = format!("{role}/{environment}/{name}");
            vec![(Method::GET, Endpoint::Watch(key))]
        }
        ["jobs", role, environment, name, verb] => {
            let key = format!("{role}/{environment}/{name}");
            vec![(Method::POST, job_verb(verb, key)?)]
        }
        ["agents", host, "drain"] => vec![(Method::POST, Endpoint::Drain((*host).to_owned()))],
        ["agents", _, verb] => {
            let refused = not_found(format!("an agent cannot be asked to {verb}"));
            return Err(refused.hint("it can be asked to drain"));
        }
        ["quotas", role] => vec![
            (Method::PUT, Endpoint::SetQuota((*role).to_owned())),
            (Method::DELETE, Endpoint::RemoveQuota((*role).to_owned())),
        ],
        _ => return Err(nothing_there(parts, path)),
    })
}

fn job_verb(verb: &str, key: String) -> Result<Endpoint, Refused> {
    Ok(match verb {
        "kill" => Endpoint::Kill(key),
        "restart" => Endpoint::Restart(key),
        "scale" => Endpoint::Scale(key),
        "pause" => Endpoint::Pause(key),
        "resume" => Endpoint::Resume(key),
        "abort" => Endpoint::Abort(key),
        other => {
            let refused = not_found(format!("a job cannot be asked to {other}"));
            let hint = match near_name(other, JOB_VERBS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it can be asked to {}", JOB_VERBS.join(", ")),
            };
            return Err(refused.hint(hint));
        }
    })
}

fn nothing_there(parts: &[&str], path: &str) -> Refused {
    let shape = match parts.first() {
        Some(&"jobs") => "/jobs, /jobs/ROLE/ENVIRONMENT/NAME, /jobs/ROLE/ENVIRONMENT/NAME/VERB",
        Some(&"agents") => "/agents, /agents/HOST/drain",
        Some(&"quotas") => "/quotas, /quotas/ROLE",
        Some(&"status") => "/status",
        Some(&"metrics") => "/metrics",
        Some(other) => {
            if let Some(near) = near_name(other, ROOTS.into_iter()) {
                return not_found(format!("there is nothing at {path}"))
                    .hint(format!("did you mean /{near}?"));
            }
            "/jobs, /agents, /quotas, /status, /metrics"
        }
        None => "/jobs, /agents, /quotas, /status, /metrics",
    };
    not_found(format!("there is nothing at {path}")).hint(format!("there is {shape}"))
}

fn not_found(error: String) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, error)
}

/// A path with its `%XX` decoded. A `%` without two hexadecimal digits stays as it is.
fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every endpoint, with a body that it takes and a misspelt field of it with the right
    /// spelling.
    const ALL: [(&str, &str, &str, &str, &str); 21] = [
        ("GET", "/status", "", "", ""),
        ("GET", "/metrics", "", "", ""),
        ("GET", "/jobs", "", "", ""),
        ("GET", "/agents", "", "", ""),
        ("GET", "/quotas", "", "", ""),
        ("GET", "/jobs/r/e/n", "", "", ""),
        ("GET", "/jobs/r/e/n/watch", "", "", ""),
        ("POST", "/jobs", r#"{"job": ""}"#, "rloe", "role"),
        ("POST", "/jobs", r#"{"job": ""}"#, "taks", "task"),
        ("PUT", "/jobs", r#"{"job": ""}"#, "fource", "force"),
        ("PUT", "/jobs", r#"{"job": ""}"#, "instnaces", "instances"),
        (
            "POST",
            "/jobs/r/e/n/kill",
            r#"{"instances": "3"}"#,
            "instnaces",
            "instances",
        ),
        (
            "POST",
            "/jobs/r/e/n/restart",
            r#"{"instances": "3"}"#,
            "instance",
            "instances",
        ),
        (
            "POST",
            "/jobs/r/e/n/scale",
            r#"{"count": 3}"#,
            "cuont",
            "count",
        ),
        ("POST", "/jobs/r/e/n/pause", "", "", ""),
        ("POST", "/jobs/r/e/n/resume", "", "", ""),
        ("POST", "/jobs/r/e/n/abort", "", "", ""),
        (
            "POST",
            "/agents/h/drain",
            r#"{"over": true}"#,
            "ovr",
            "over",
        ),
        ("PUT", "/quotas/r", r#"{"ram": "1GiB"}"#, "rma", "ram"),
        ("PUT", "/quotas/r", r#"{"cpu": 1.5}"#, "cpus", "cpu"),
        ("DELETE", "/quotas/r", "", "", ""),
    ];

    fn found(method: &str, path: &str) -> Endpoint {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Endpoint::find(&method, path, None).unwrap()
    }

    /// The error and the hint of a request that must be refused with 400.
    fn refused(method: &str, path: &str, body: &str) -> (String, String) {
        let endpoint = found(method, path);
        let refused = endpoint.question(body.as_bytes());
        let refused = refused.expect_err(&format!("{method} {path} {body}"));
        assert_eq!(refused.status, 400, "{method} {path} {body}");
        let text = |name: &str| refused.body[name].as_str().unwrap_or_default().to_owned();
        (text("error"), text("hint"))
    }

    #[test]
    fn every_request_is_understood_with_its_own_fields() {
        for (method, path, body, _, _) in ALL {
            let question = found(method, path).question(body.as_bytes());
            assert!(question.is_ok(), "{method} {path} {body}: {question:?}");
        }
    }

    #[test]
    fn every_request_with_an_unknown_field_is_refused_and_the_field_named() {
        for (method, path, body, wrong, right) in ALL {
            for field in ["instnaces", "dry_run", "", "Count", wrong] {
                let more = format!("{{\"{field}\": \"3\"}}");
                // Alone, and after the fields that the request has.
                let after = match body {
                    "" => more.clone(),
                    body => format!("{}, {}", &body[..body.len() - 1], &more[1..]),
                };
                for body in [more, after] {
                    let (error, hint) = refused(method, path, &body);
                    assert_eq!(
                        error,
                        format!("the request has no field `{field}`"),
                        "{path}"
                    );
                    assert!(!hint.is_empty(), "{path}");
                    if !wrong.is_empty() && field == wrong {
                        assert_eq!(hint, format!("did you mean `{right}`?"), "{path}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_body_is_one_object_with_each_field_once() {
        for (method, path, body, _, _) in ALL {
            for other in [
                "[]", "[\"3\"]", "null", "3", "\"3\"", "{", "x", " ", "{} {}", "{}]",
            ] {
                let (error, _) = refused(method, path, other);
                assert!(error.contains("cannot be read"), "{path} {other}: {error}");
            }
            if !body.is_empty() {
                let (error, _) = refused(method, path, &format!("{body} trailing"));
                assert!(error.contains("trailing characters"), "{path}: {error}");
                let (error, _) = refused(
                    method,
                    path,
                    &format!("{}, {}", &body[..body.len() - 1], &body[1..]),
                );
                assert!(error.ends_with("is there twice"), "{path}: {error}");
            }
        }
    }

    #[test]
    fn values_of_another_type_are_refused_with_their_field() {
        for (method, path, body, field) in [
            (
                "POST",
                "/jobs/r/e/n/kill",
                r#"{"instances": 3}"#,
                "instances",
            ),
            (
                "POST",
                "/jobs/r/e/n/kill",
                r#"{"instances": ["3"]}"#,
                "instances",
            ),
            (
                "POST",
                "/jobs/r/e/n/restart",
                r#"{"instances": {}}"#,
                "instances",
            ),
            ("POST", "/jobs/r/e/n/scale", r#"{"count": "3"}"#, "count"),
            ("POST", "/jobs/r/e/n/scale", r#"{"count": -1}"#, "count"),
            ("POST", "/jobs/r/e/n/scale", r#"{"count": 1.5}"#, "count"),
            ("POST", "/jobs/r/e/n/scale", r#"{"count": null}"#, "count"),
            ("POST", "/agents/h/drain", r#"{"over": "true"}"#, "over"),
            ("POST", "/agents/h/drain", r#"{"over": null}"#, "over"),
            ("PUT", "/quotas/r", r#"{"ram": 8}"#, "ram"),
            ("PUT", "/quotas/r", r#"{"ram": "much"}"#, "ram"),
            ("PUT", "/quotas/r", r#"{"cpu": "4"}"#, "cpu"),
            ("PUT", "/quotas/r", r#"{"gpu": 0.5}"#, "gpu"),
            ("POST", "/jobs", r#"{"job": {}}"#, "job"),
            ("PUT", "/jobs", r#"{"job": "", "force": 1}"#, "force"),
            (
                "PUT",
                "/jobs",
                r#"{"job": "", "instances": 3}"#,
                "instances",
            ),
        ] {
            let (error, _) = refused(method, path, body);
            assert!(
                error.starts_with(&format!("the field `{field}`: ")),
                "{body}: {error}"
            );
        }
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        let (error, _) = refused("POST", "/jobs/r/e/n/scale", "");
        assert_eq!(
            error,
            "the request has no body: expected a JSON object with `count`"
        );
        let (error, _) = refused("PUT", "/quotas/r", "");
        assert!(error.starts_with("the request has no body"), "{error}");
        for (method, path, field) in [
            ("POST", "/jobs/r/e/n/scale", "count"),
            ("POST", "/jobs", "job"),
            ("PUT", "/jobs", "job"),
        ] {
            let (error, _) = refused(method, path, "{}");
            assert_eq!(error, format!("the field `{field}` is missing"));
        }
    }

    #[test]
    fn only_an_update_is_of_some_instances_or_forced() {
        for field in [r#""instances": "0-2""#, r#""force": true"#] {
            let body = format!(r#"{{"job": "", {field}}}"#);
            let (error, hint) = refused("POST", "/jobs", &body);
            assert!(error.ends_with("is for updates only"), "{error}");
            assert!(hint.contains("PUT /jobs"), "{hint}");
            assert!(found("PUT", "/jobs").question(body.as_bytes()).is_ok());
        }
        // As `dewar job create` sends them.
        let body = br#"{"job": "", "instances": null, "force": false}"#;
        assert!(found("POST", "/jobs").question(body).is_ok());
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        for (method, path, allowed) in [
            ("PUT", "/jobs/r/e/n/kill", "POST"),
            ("GET", "/jobs/r/e/n/kill", "POST"),
            ("POST", "/jobs/r/e/n", "GET"),
            ("DELETE", "/jobs/r/e/n", "GET"),
            ("POST", "/jobs/r/e/n/watch", "GET"),
            ("DELETE", "/jobs", "GET or POST or PUT"),
            ("PUT", "/agents/h/drain", "POST"),
            ("POST", "/quotas/r", "PUT or DELETE"),
            ("PUT", "/quotas", "GET"),
            ("POST", "/status", "GET"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = Endpoint::find(&method, path, None).unwrap_err();
            assert_eq!(refused.status, 405, "{method} {path}");
            assert_eq!(
                refused.body["hint"],
                format!("use {allowed}"),
                "{method} {path}"
            );
            assert!(!refused.allow.is_empty());
        }
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        for (path, hint) in [
            ("/jobs/r/e/n/klil", "did you mean `kill`?"),
            ("/jobs/r/e/n/destroy", "it can be asked to kill, restart"),
            ("/jobs/r/e", "/jobs/ROLE/ENVIRONMENT/NAME"),
            ("/jobs/r/e/n/kill/3", "/jobs/ROLE/ENVIRONMENT/NAME/VERB"),
            ("/agents/h/drian", "drain"),
            ("/agents/h", "/agents/HOST/drain"),
            ("/job", "did you mean /jobs?"),
            ("/quotas/r/x", "/quotas/ROLE"),
            ("/", "/jobs"),
        ] {
            let refused = Endpoint::find(&Method::POST, path, None).unwrap_err();
            assert_eq!(refused.status, 404, "{path}");
            let told = refused.body["hint"].as_str().unwrap_or_default();
            assert!(told.contains(hint), "{path}: {told}");
        }
    }

    #[test]
    fn no_endpoint_takes_a_query() {
        for (method, path, _, _, _) in ALL {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = Endpoint::find(&method, path, Some("instances=3")).unwrap_err();
            assert_eq!(refused.status, 400, "{path}");
            let error = refused.body["error"].as_str().unwrap_or_default();
            assert!(error.contains("`instances=3`"), "{error}");
            assert!(Endpoint::find(&method, path, Some("")).is_ok());
        }
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decoded("/jobs/a%2Fb/%25x/%zz%4"), "/jobs/a/b/%x/%zz%4");
    }

    proptest! {
        #[test]
        fn any_path_is_decoded(path in ".*") {
            let _ = decoded(&path);
        }

        #[test]
        fn any_body_is_read_or_refused(body in "[\\PC]{0,30}", at in 0..ALL.len()) {
            let (method, path, ..) = ALL[at];
            let _ = found(method, path).question(body.as_bytes());
        }
    }
}
