//! What a task may see and reach: as root, and without it.

mod isolation;
mod unprivileged;
