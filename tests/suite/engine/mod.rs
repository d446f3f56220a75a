//! Tasks on this machine: how they run, end, fail and come back.

pub mod broken_link;
mod cleanup;
mod clients;
mod ends;
mod errnos;
mod escapes;
mod faults;
mod final_wait;
mod health;
mod journal;
mod lasting;
mod logs;
mod one_tree;
mod reopened_logs;
mod semantics;
mod shortage;
mod signals;
mod starts;
mod stop;
mod told;
mod vectors;
