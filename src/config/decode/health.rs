//! `health` of a task or a process: how to tell whether it works.

use super::fields::Fields;
use crate::{
    config::{diagnostic::Diagnostics, text::node::Node},
    task::{Health, HttpProbe, Period, Probe, TcpProbe},
};

const FIELDS: [&str; 9] = [
    "http",
    "tcp",
    "shell",
    "delay",
    "initial_interval",
    "interval",
    "timeout",
    "max_consecutive_failures",
    "min_consecutive_successes",
];

/// Decodes a check; the defaults are those of Aurora's HealthCheckConfig.
pub(super) fn health(node: &Node, diagnostics: &mut Diagnostics) -> Option<Health> {
    let mut fields = Fields::of(node, "`health`", diagnostics)?;
    let http = fields.take("http").and_then(|node| http(node, diagnostics));
    let tcp = fields.take("tcp").and_then(|node| tcp(node, diagnostics));
    let shell = fields.string("shell", diagnostics).map(Probe::Shell);
    let given = ["http", "tcp", "shell"].map(|name| node.get(name).is_some());
    if given.iter().filter(|given| **given).count() != 1 {
        let start = fields.span.start;
        diagnostics
            .error(
                &(start..start + 1),
                "`health` needs one of `http`, `tcp` and `shell`",
            )
            .help("for example: health: {http: {port: 8080, path: /health}}");
    }
    let mut period = |name: &str, default: u64| {
        let given = fields.period(name, diagnostics);
        given.unwrap_or(Period::from_secs(default))
    };
    let [delay, initial_interval, interval, timeout] = [
        ("delay", 0),
        ("initial_interval", 15),
        ("interval", 10),
        ("timeout", 1),
    ]
    .map(|(name, default)| period(name, default));
    for (name, period) in [("interval", interval), ("timeout", timeout)] {
        if period.as_micros() == 0 {
            let place = fields.place(name);
            diagnostics.error(&place, format!("`{name}` must be more than 0"));
        }
    }
    let max_consecutive_failures = fields.count("max_consecutive_failures", diagnostics);
    let min_consecutive_successes = fields.count("min_consecutive_successes", diagnostics);
    fields.finish(&FIELDS, &[], diagnostics);
    Some(Health {
        probe: http.or(tcp).or(shell)?,
        delay,
        initial_interval,
        interval,
        timeout,
        max_consecutive_failures: max_consecutive_failures.unwrap_or(0),
        min_consecutive_successes: min_consecutive_successes.unwrap_or(1).max(1),
        grace_ends_early: false,
    })
}

/// What Aurora's schedulers say around a task, in `health_check_config`: a script, or else GET at the
/// port that is called `health`, if there is one.
pub(crate) fn wrapped(node: Option<&Node>, port: Option<u16>) -> Option<Health> {
    let number = |name: &str, default: f64| {
        let text = node.and_then(|node| node.get(name)).and_then(Node::text);
        text.and_then(|text| text.trim().parse().ok())
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
            .unwrap_or(default)
    };
    let seconds = |name: &str, default: f64| {
        // Nothing at all would be a busy loop, or no time to answer.
        let seconds = match number(name, default) {
            0.0 if name != "initial_interval_secs" => default,
            seconds => seconds,
        };
        Period::from_secs_f64(seconds).unwrap_or(Period::from_secs(1))
    };
    let checker = node.and_then(|node| node.get("health_checker"));
    let text = |checker: Option<&Node>, name: &str| {
        let text = checker.and_then(|node| node.get(name)).and_then(Node::text);
        text.filter(|text| !text.is_empty())
    };
    let shell = text(checker.and_then(|node| node.get("shell")), "shell_command");
    let http = checker.and_then(|node| node.get("http"));
    let probe = match (shell, port) {
        (Some(script), _) => Probe::Shell(script),
        (None, Some(port)) => Probe::Http(HttpProbe {
            port,
            path: text(http, "endpoint").unwrap_or_else(|| "/health".to_owned()),
            status: text(http, "expected_response_code")
                .and_then(|code| code.parse().ok())
                .unwrap_or(0),
            body: match http.and_then(|node| node.get("expected_response")) {
                Some(node) => node.text().unwrap_or_default(),
                None => "ok".to_owned(),
            },
        }),
        (None, None) => return None,
    };
    Some(Health {
        probe,
        delay: Period::from_secs(0),
        initial_interval: seconds("initial_interval_secs", 15.0),
        interval: seconds("interval_secs", 10.0),
        timeout: seconds("timeout_secs", 1.0),
        max_consecutive_failures: number("max_consecutive_failures", 0.0) as u32,
        min_consecutive_successes: (number("min_consecutive_successes", 1.0) as u32).max(1),
        grace_ends_early: false,
    })
}

fn http(node: &Node, diagnostics: &mut Diagnostics) -> Option<Probe> {
    let mut fields = Fields::of(node, "`http`", diagnostics)?;
    let path = path(&mut fields, "path", "/health", diagnostics);
    let probe = HttpProbe {
        port: port(&mut fields, diagnostics)?,
        path,
        status: status(&mut fields, diagnostics),
        body: fields.string("body", diagnostics).unwrap_or_default(),
    };
    fields.finish(&["port", "path", "status", "body"], &[], diagnostics);
    Some(Probe::Http(probe))
}

fn status(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> u16 {
    let place = fields.place("status");
    match fields.count("status", diagnostics) {
        None => 0,
        Some(status @ 100..=599) => status as u16,
        Some(status) => {
            diagnostics.error(&place, format!("{status} is no status of HTTP: 100 to 599"));
            0
        }
    }
}

fn tcp(node: &Node, diagnostics: &mut Diagnostics) -> Option<Probe> {
    let mut fields = Fields::of(node, "`tcp`", diagnostics)?;
    let port = port(&mut fields, diagnostics)?;
    fields.finish(&["port"], &[], diagnostics);
    Some(Probe::Tcp(TcpProbe { port }))
}

/// An absolute path, as it stands in a request.
pub(super) fn path(
    fields: &mut Fields<'_>,
    name: &str,
    default: &str,
    diagnostics: &mut Diagnostics,
) -> String {
    let path = fields.string(name, diagnostics);
    let path = path.unwrap_or_else(|| default.to_owned());
    let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
    if !is_path {
        let place = fields.place(name);
        diagnostics
            .error(&place, format!("{path:?} is no path"))
            .help("it begins with `/`; spaces and other signs are written as %20");
    }
    path
}

pub(super) fn port(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<u16> {
    if !fields.has("port") {
        let start = fields.span.start;
        diagnostics
            .error(&(start..start + 1), "`port` is missing")
            .help("a number, or {{thermos.ports[NAME]}}");
        return None;
    }
    let place = fields.place("port");
    let number = fields.count("port", diagnostics)?;
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            diagnostics.error(&place, format!("{number} is no port: 1 to 65535"));
            None
        }
    }
}
