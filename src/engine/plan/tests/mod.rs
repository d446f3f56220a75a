//! The plan against a naive model, and its promises under random DAGs, exits, kills, clocks and
//! crashes.

mod examples;
mod naive;
mod simulation;
mod tasks;
