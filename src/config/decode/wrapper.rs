//! What Aurora puts around a task: `health_check_config` and `lifecycle`.
//!
//! It is looked at twice. In a job file every mistake is refused (`check_*`), so that a user learns
//! of it before anything runs. In the data that a scheduler sends, the executor takes what it
//! understands (`read_*`): what is wrong there counts as absent.

use super::fields::{Fields, wrong_type};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table::wrapper::{
            HEALTH_CHECK, HEALTH_CHECKER, HTTP_CHECKER, HTTP_LIFECYCLE, LIFECYCLE, SHELL_CHECKER,
        },
        text::node::{Node, Value},
    },
    task::{Health, HttpProbe, Lifecycle, Period, Probe},
};

/// Aurora's name for the port of both.
pub(super) const HEALTH: &str = "health";

/// True when the health check is one by HTTP, which needs a port.
pub(super) fn check_health(node: &Node, diagnostics: &mut Diagnostics) -> bool {
    let Some(mut fields) = Fields::of(node, &HEALTH_CHECK, diagnostics) else {
        return false;
    };
    let mut is_http = true;
    if let Some(checker) = fields.take("health_checker")
        && let Some(mut checker) = Fields::of(checker, &HEALTH_CHECKER, diagnostics)
    {
        if let Some(http) = checker.take("http")
            && let Some(mut http) = Fields::of(http, &HTTP_CHECKER, diagnostics)
        {
            http.string("endpoint", diagnostics);
            http.string("expected_response", diagnostics);
            http.count("expected_response_code", diagnostics);
            http.finish(diagnostics);
        }
        if let Some(shell) = checker.take("shell")
            && let Some(mut shell) = Fields::of(shell, &SHELL_CHECKER, diagnostics)
        {
            is_http = false;
            shell.required("shell_command", diagnostics);
            shell.finish(diagnostics);
        }
        checker.finish(diagnostics);
    }
    for name in ["initial_interval_secs", "interval_secs", "timeout_secs"] {
        fields.real(name, diagnostics);
    }
    for name in ["max_consecutive_failures", "min_consecutive_successes"] {
        fields.count(name, diagnostics);
    }
    fields.finish(diagnostics);
    is_http
}

/// The name of the port that the lifecycle speaks to.
pub(super) fn check_lifecycle(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let mut fields = Fields::of(node, &LIFECYCLE, diagnostics)?;
    let http = fields.take("http");
    fields.finish(diagnostics);
    let http = http?;
    if !matches!(http.value, Value::Map(_)) {
        wrong_type(http, "http", "a map", diagnostics);
        return None;
    }
    let mut http = Fields::of(http, &HTTP_LIFECYCLE, diagnostics)?;
    let port = http.string("port", diagnostics);
    for name in ["graceful_shutdown_endpoint", "shutdown_endpoint"] {
        http.string(name, diagnostics);
    }
    for name in ["graceful_shutdown_wait_secs", "shutdown_wait_secs"] {
        http.real(name, diagnostics);
    }
    http.finish(diagnostics);
    Some(port.unwrap_or_else(|| HEALTH.to_owned()))
}

/// Takes the health check out of `health_check_config`: a script, or else GET at `port`, the port
/// that is called `health`, if there is one. Its grace is counted in attempts, as Aurora did.
pub(crate) fn read_health(node: Option<&Node>, port: Option<u16>) -> Option<Health> {
    let number = |name: &str| {
        let text = node.and_then(|node| node.get(name)).and_then(Node::text);
        let number = text.and_then(|text| text.trim().parse::<f64>().ok());
        number.filter(|number| number.is_finite() && *number >= 0.0)
    };
    // No time at all would be a busy loop, or no time to answer.
    let positive = |name: &str| number(name).filter(|seconds| *seconds > 0.0);
    let period = |seconds: Option<f64>, default: Period| match seconds {
        Some(seconds) => Period::from_secs_f64(seconds).unwrap_or(Period::from_secs(1)),
        None => default,
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
        (None, Some(port)) => {
            let standard = HttpProbe::at(port);
            Probe::Http(HttpProbe {
                path: text(http, "endpoint").unwrap_or(standard.path),
                status: text(http, "expected_response_code")
                    .and_then(|code| code.parse().ok())
                    .unwrap_or(standard.status),
                body: match http.and_then(|node| node.get("expected_response")) {
                    Some(node) => node.text().unwrap_or_default(),
                    None => "ok".to_owned(),
                },
                port,
            })
        }
        (None, None) => return None,
    };
    let standard = Health::of(probe);
    let count = |name: &str, default| number(name).map_or(default, |number| number as u32);
    Some(Health {
        initial_interval: period(number("initial_interval_secs"), standard.initial_interval),
        interval: period(positive("interval_secs"), standard.interval),
        timeout: period(positive("timeout_secs"), standard.timeout),
        max_consecutive_failures: count(
            "max_consecutive_failures",
            standard.max_consecutive_failures,
        ),
        min_consecutive_successes: count(
            "min_consecutive_successes",
            standard.min_consecutive_successes,
        )
        .max(1),
        grace_is_time: false,
        ..standard
    })
}

/// Takes the requests out of `lifecycle`: `port` gives the number of a port by its name, and
/// without that port there is no lifecycle.
pub(crate) fn read_lifecycle(
    node: Option<&Node>,
    port: impl Fn(&str) -> Option<u16>,
) -> Option<Lifecycle> {
    let http = node?.get("http")?;
    let text = |name: &str| http.get(name).and_then(Node::text);
    let wait = |name: &str| {
        let seconds = text(name).and_then(|text| text.trim().parse().ok());
        seconds.and_then(Period::from_secs_f64)
    };
    let standard = Lifecycle::at(port(text("port").as_deref().unwrap_or(HEALTH))?);
    Some(Lifecycle {
        graceful_shutdown_endpoint: text("graceful_shutdown_endpoint")
            .unwrap_or(standard.graceful_shutdown_endpoint),
        shutdown_endpoint: text("shutdown_endpoint").unwrap_or(standard.shutdown_endpoint),
        graceful_shutdown_wait: wait("graceful_shutdown_wait_secs")
            .unwrap_or(standard.graceful_shutdown_wait),
        shutdown_wait: wait("shutdown_wait_secs").unwrap_or(standard.shutdown_wait),
        ..standard
    })
}
