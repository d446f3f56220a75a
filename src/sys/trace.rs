//! What dewar says about itself: to standard error, which for root, keeper and runner is
//! `engine.log` beside the journal.

/// Starts tracing; DEWAR_LOG (error, warn, info, debug, trace) says how much, warnings by default.
/// Later calls change nothing.
pub fn start() {
    start_with(tracing::Level::WARN);
}

/// As [`start`], with another level where DEWAR_LOG says none.
pub fn start_with(default: tracing::Level) {
    let wanted = std::env::var("DEWAR_LOG").ok();
    let level = wanted.and_then(|level| level.parse().ok());
    // An error means that it was started before.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(default))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A full disk must not make a panic of a warning.
        .log_internal_errors(false)
        .try_init();
}
