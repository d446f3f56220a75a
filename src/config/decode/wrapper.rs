//! What stands around a job's task as Aurora has it, checked: `health_check_config` and `lifecycle`.
//!
//! Executors forgive what they do not understand there; whoever writes it must not have to find out.

use super::fields::{Fields, wrong_type};
use crate::config::{
    diagnostic::Diagnostics,
    text::node::{Node, Value},
};

/// True when the health check is one by HTTP, which needs a port.
pub(super) fn health_check(node: &Node, diagnostics: &mut Diagnostics) -> bool {
    const NAME: &str = "`health_check_config`";
    let Some(mut fields) = Fields::of(node, NAME, diagnostics) else {
        return false;
    };
    let mut is_http = true;
    if let Some(checker) = fields.take("health_checker")
        && let Some(mut checker) = Fields::of(checker, "`health_checker`", diagnostics)
    {
        if let Some(http) = checker.take("http")
            && let Some(mut http) = Fields::of(http, "`http`", diagnostics)
        {
            http.string("endpoint", diagnostics);
            http.string("expected_response", diagnostics);
            http.count("expected_response_code", diagnostics);
            let known = ["endpoint", "expected_response", "expected_response_code"];
            http.finish(&known, &[], diagnostics);
        }
        if let Some(shell) = checker.take("shell")
            && let Some(mut shell) = Fields::of(shell, "`shell`", diagnostics)
        {
            is_http = false;
            shell.required("shell_command", diagnostics);
            shell.finish(&["shell_command"], &[], diagnostics);
        }
        checker.finish(&["http", "shell"], &[], diagnostics);
    }
    for name in ["initial_interval_secs", "interval_secs", "timeout_secs"] {
        fields.real(name, diagnostics);
    }
    for name in ["max_consecutive_failures", "min_consecutive_successes"] {
        fields.count(name, diagnostics);
    }
    let known = [
        "health_checker",
        "initial_interval_secs",
        "interval_secs",
        "timeout_secs",
        "max_consecutive_failures",
        "min_consecutive_successes",
    ];
    fields.finish(&known, &[], diagnostics);
    is_http
}

/// The name of the port that the lifecycle speaks to.
pub(super) fn lifecycle(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let mut fields = Fields::of(node, "`lifecycle`", diagnostics)?;
    let http = fields.take("http");
    fields.finish(&["http"], &[], diagnostics);
    let http = http?;
    if !matches!(http.value, Value::Map(_)) {
        wrong_type(http, "http", "a map", diagnostics);
        return None;
    }
    let mut http = Fields::of(http, "`http`", diagnostics)?;
    let port = http.string("port", diagnostics);
    for name in ["graceful_shutdown_endpoint", "shutdown_endpoint"] {
        http.string(name, diagnostics);
    }
    for name in ["graceful_shutdown_wait_secs", "shutdown_wait_secs"] {
        http.real(name, diagnostics);
    }
    let known = [
        "port",
        "graceful_shutdown_endpoint",
        "shutdown_endpoint",
        "graceful_shutdown_wait_secs",
        "shutdown_wait_secs",
    ];
    http.finish(&known, &[], diagnostics);
    Some(port.unwrap_or_else(|| HEALTH.to_owned()))
}

/// Aurora's name for the port of both.
pub(super) const HEALTH: &str = "health";
