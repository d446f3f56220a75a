//! `health` of a task or a process: how to tell whether it works.

use super::fields::Fields;
use crate::{
    config::{diagnostic::Diagnostics, table, text::node::Node},
    task::{Health, HttpProbe, Probe, TcpProbe},
};

/// Decodes a health check.
pub(super) fn health(node: &Node, diagnostics: &mut Diagnostics) -> Option<Health> {
    let mut fields = Fields::of(node, &table::health::HEALTH, diagnostics)?;
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
    // Every mistake in the other fields is found without a probe too.
    let probe = http.or(tcp).or(shell);
    let standard = Health::of(probe.clone().unwrap_or(Probe::Shell(String::new())));
    let mut period = |name: &str, default| fields.period(name, diagnostics).unwrap_or(default);
    let health = Health {
        delay: period("delay", standard.delay),
        initial_interval: period("initial_interval", standard.initial_interval),
        interval: period("interval", standard.interval),
        timeout: period("timeout", standard.timeout),
        max_consecutive_failures: fields
            .count("max_consecutive_failures", diagnostics)
            .unwrap_or(standard.max_consecutive_failures),
        min_consecutive_successes: fields
            .count("min_consecutive_successes", diagnostics)
            .unwrap_or(standard.min_consecutive_successes)
            .max(1),
        ..standard
    };
    for (name, period) in [("interval", health.interval), ("timeout", health.timeout)] {
        if period.as_micros() == 0 {
            let place = fields.place(name);
            diagnostics.error(&place, format!("`{name}` must be more than 0"));
        }
    }
    fields.finish(diagnostics);
    probe.map(|_| health)
}

fn http(node: &Node, diagnostics: &mut Diagnostics) -> Option<Probe> {
    let mut fields = Fields::of(node, &table::health::HTTP_PROBE, diagnostics)?;
    // Port 0 is only a stand-in: a bad path is found without a port too.
    let standard = HttpProbe::at(0);
    let path = path(&mut fields, "path", standard.path, diagnostics);
    let probe = HttpProbe {
        port: port(&mut fields, diagnostics)?,
        path,
        status: status(&mut fields, diagnostics).unwrap_or(standard.status),
        body: fields.string("body", diagnostics).unwrap_or(standard.body),
    };
    fields.finish(diagnostics);
    Some(Probe::Http(probe))
}

fn status(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<u16> {
    let place = fields.place("status");
    match fields.count("status", diagnostics)? {
        status @ 100..=599 => Some(status as u16),
        status => {
            diagnostics.error(&place, format!("{status} is no status of HTTP: 100 to 599"));
            None
        }
    }
}

fn tcp(node: &Node, diagnostics: &mut Diagnostics) -> Option<Probe> {
    let mut fields = Fields::of(node, &table::health::TCP_PROBE, diagnostics)?;
    let port = port(&mut fields, diagnostics)?;
    fields.finish(diagnostics);
    Some(Probe::Tcp(TcpProbe { port }))
}

/// An absolute path, as it stands in a request.
pub(super) fn path(
    fields: &mut Fields<'_>,
    name: &str,
    default: String,
    diagnostics: &mut Diagnostics,
) -> String {
    let path = fields.string(name, diagnostics).unwrap_or(default);
    let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
    if !is_path {
        let place = fields.place(name);
        diagnostics
            .error(&place, format!("{path:?} is no path"))
            .help("it begins with `/`; spaces and other signs are written as %20");
    }
    path
}

/// The number of a port, which must be given.
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
