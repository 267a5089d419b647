//! A transcript as text for people.
