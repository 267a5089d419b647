//! The integration suite.

mod house;
mod model_script;
mod model_server;
mod model_wire;
