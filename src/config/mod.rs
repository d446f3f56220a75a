//! Task files: from text to a validated, fully resolved [`Task`](crate::task::Task), or to every
//! mistake at once.
//!
//! text → `node` tree with places → templates → `decode` → `check`. Every stage collects all
//! mistakes; the next one works with what is left.
//! This room reads and checks. It runs nothing and writes nothing.

mod check;
mod decode;
mod diagnostic;
mod load;
mod read_job;
mod schema;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod text;

pub use diagnostic::{Diagnostics, near_name};
pub use load::{Document, Resolved, Wrapper};
pub use read_job::{JobMistakes, JobSource, job_sets};
pub use schema::{job_schema, json_schema};
pub use template::Bindings;
