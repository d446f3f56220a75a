//! `lifecycle` of a task: how to ask it to end over HTTP, before it is sent signals.

use super::{
    fields::Fields,
    health::{path, port},
};
use crate::{
    config::{diagnostic::Diagnostics, table::health, text::node::Node},
    task::Lifecycle,
};

/// Decodes `lifecycle: {http: {...}}`.
pub(super) fn lifecycle(node: &Node, diagnostics: &mut Diagnostics) -> Option<Lifecycle> {
    let mut outer = Fields::of(node, &health::LIFECYCLE, diagnostics)?;
    let http = outer.take("http");
    if http.is_none() {
        let start = outer.span.start;
        diagnostics
            .error(&(start..start + 1), "`lifecycle` needs `http`")
            .help("for example: lifecycle: {http: {port: 8080}}");
    }
    outer.finish(diagnostics);
    let mut fields = Fields::of(http?, &health::HTTP_LIFECYCLE, diagnostics)?;
    // Port 0 is only a stand-in: every mistake in the other fields is found without one too.
    let standard = Lifecycle::at(0);
    let graceful_shutdown_endpoint = path(
        &mut fields,
        "graceful_shutdown_endpoint",
        standard.graceful_shutdown_endpoint,
        diagnostics,
    );
    let shutdown_endpoint = path(
        &mut fields,
        "shutdown_endpoint",
        standard.shutdown_endpoint,
        diagnostics,
    );
    let mut wait = |name: &str, default| fields.period(name, diagnostics).unwrap_or(default);
    let graceful_shutdown_wait = wait("graceful_shutdown_wait", standard.graceful_shutdown_wait);
    let shutdown_wait = wait("shutdown_wait", standard.shutdown_wait);
    let port = port(&mut fields, diagnostics);
    fields.finish(diagnostics);
    Some(Lifecycle {
        port: port?,
        graceful_shutdown_endpoint,
        shutdown_endpoint,
        graceful_shutdown_wait,
        shutdown_wait,
    })
}
