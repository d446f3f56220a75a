//! Versions meet: what restricts a task is understood by every side, or refused.

mod executor;
mod later;
mod local;
mod meeting;
