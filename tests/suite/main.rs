//! The integration suite.

mod house;
mod model_server;
