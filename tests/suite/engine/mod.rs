//! Tasks on this machine: how they run, end, fail and come back.

mod broken_link;
mod cleanup;
mod clients;
mod errnos;
mod escapes;
mod faults;
mod health;
mod journal;
mod lasting;
mod logs;
mod one_tree;
mod semantics;
mod stop;
mod vectors;
