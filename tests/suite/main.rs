//! The integration suite.

#![expect(clippy::unwrap_used, reason = "a test that can not go on fails, and says where")]

mod aimock;
mod apply;
mod at_a_terminal;
mod bad_input;
mod boxless;
mod completions;
mod containers;
mod desk;
mod diff;
mod engine_cut;
mod engines;
mod flood;
mod goal;
mod guest;
mod hang_up;
mod hostile;
mod house;
mod jobs;
mod journal;
mod lifeline;
mod logs;
mod long_waits;
mod model_script;
mod model_server;
mod model_wire;
mod people;
mod prompts;
mod recorded;
mod replay;
mod sandbox_contract;
mod sandbox_docker;
mod sandbox_local;
mod screen;
mod servers;
mod sight;
mod six_hours;
mod small_disk;
mod stage;
mod story;
mod terminal;
mod tmux_image;
mod tmux_tool;
mod view;
mod waits;
