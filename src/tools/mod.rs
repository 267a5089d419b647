//! What the model may do.

pub mod decode;
pub mod schema;
