//! Tasks on this machine: how they run, end, fail and come back.

mod broken_link;
mod cleanup;
mod clients;
mod errnos;
mod faults;
mod health;
mod journal;
mod lasting;
mod logs;
mod semantics;
mod starts;
mod stop;
mod vectors;
