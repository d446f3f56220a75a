//! Limits that the kernel enforces.

mod enforced;
mod groups;
mod trial;
