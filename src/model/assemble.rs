//! To come: deltas put together to an answer.
