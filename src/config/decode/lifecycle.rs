//! `lifecycle` of a task: how to ask it to end over HTTP, before it is sent signals.

use super::{
    fields::Fields,
    health::{path, port},
};
use crate::{
    config::{diagnostic::Diagnostics, text::node::Node},
    task::{Lifecycle, Period},
};

const FIELDS: [&str; 5] = [
    "port",
    "graceful_shutdown_endpoint",
    "shutdown_endpoint",
    "graceful_shutdown_wait",
    "shutdown_wait",
];
const GRACEFUL: &str = "/quitquitquit";
const ABORT: &str = "/abortabortabort";
const WAIT_SECS: u64 = 5;

/// Decodes `lifecycle: {http: {...}}`; the defaults are those of Aurora's HttpLifecycleConfig.
pub(super) fn lifecycle(node: &Node, diagnostics: &mut Diagnostics) -> Option<Lifecycle> {
    let mut outer = Fields::of(node, "`lifecycle`", diagnostics)?;
    let http = outer.take("http");
    if http.is_none() {
        let start = outer.span.start;
        diagnostics
            .error(&(start..start + 1), "`lifecycle` needs `http`")
            .help("for example: lifecycle: {http: {port: 8080}}");
    }
    outer.finish(&["http"], &[], diagnostics);
    let mut fields = Fields::of(http?, "`http`", diagnostics)?;
    let graceful = path(
        &mut fields,
        "graceful_shutdown_endpoint",
        GRACEFUL,
        diagnostics,
    );
    let abort = path(&mut fields, "shutdown_endpoint", ABORT, diagnostics);
    let mut wait = |name: &str| {
        let given = fields.period(name, diagnostics);
        given.unwrap_or(Period::from_secs(WAIT_SECS))
    };
    let (graceful_wait, abort_wait) = (wait("graceful_shutdown_wait"), wait("shutdown_wait"));
    let port = port(&mut fields, diagnostics);
    fields.finish(&FIELDS, &[], diagnostics);
    Some(Lifecycle {
        port: port?,
        graceful_shutdown_endpoint: graceful,
        shutdown_endpoint: abort,
        graceful_shutdown_wait: graceful_wait,
        shutdown_wait: abort_wait,
    })
}

/// What Aurora's schedulers say around a task, in `lifecycle`: `port` gives the number of a port by
/// its name, and without that port there is no lifecycle.
pub(crate) fn wrapped(
    node: Option<&Node>,
    port: impl Fn(&str) -> Option<u16>,
) -> Option<Lifecycle> {
    let http = node?.get("http")?;
    let text = |name: &str, default: &str| {
        let text = http.get(name).and_then(Node::text);
        text.unwrap_or_else(|| default.to_owned())
    };
    let wait = |name: &str| {
        let seconds = text(name, "").trim().parse().ok();
        let period = seconds.and_then(Period::from_secs_f64);
        period.unwrap_or(Period::from_secs(WAIT_SECS))
    };
    Some(Lifecycle {
        port: port(&text("port", "health"))?,
        graceful_shutdown_endpoint: text("graceful_shutdown_endpoint", GRACEFUL),
        shutdown_endpoint: text("shutdown_endpoint", ABORT),
        graceful_shutdown_wait: wait("graceful_shutdown_wait_secs"),
        shutdown_wait: wait("shutdown_wait_secs"),
    })
}
