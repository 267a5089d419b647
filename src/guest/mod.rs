//! The supervisor inside the box: owns the PTYs, writes the logs, knows the exits, and outlives `agent`.

mod client;
mod protocol;
mod server;

pub use client::Client;
