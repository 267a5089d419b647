//! The integration suite.

mod model_server;
