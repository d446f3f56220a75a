//! The two syntaxes of task files: text becomes one tree whose nodes know their places.

pub mod json;
pub mod node;
pub mod to_json;
pub mod yaml;
