//! Observers that the command line puts together.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Entry, Observer, Progress};

/// Several observers, told one after the other.
#[derive(Default)]
pub(super) struct Observers(pub(super) Vec<Box<dyn Observer>>);

impl Observer for Observers {
    fn entry(&mut self, entry: &Entry) {
        self.0.iter_mut().for_each(|observer| observer.entry(entry));
    }

    fn progress(&mut self, progress: &Progress) {
        self.0.iter_mut().for_each(|observer| observer.progress(progress));
    }
}

/// An observer that its maker still needs when the run is over.
pub(super) struct Shared<O>(Arc<Mutex<O>>);

impl<O> Shared<O> {
    /// Shares `observer`.
    pub(super) fn new(observer: O) -> Self {
        Self(Arc::new(Mutex::new(observer)))
    }

    /// Looks at it or has it do something.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut O) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<O> Clone for Shared<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O: Observer> Observer for Shared<O> {
    fn entry(&mut self, entry: &Entry) {
        self.with(|observer| observer.entry(entry));
    }

    fn progress(&mut self, progress: &Progress) {
        self.with(|observer| observer.progress(progress));
    }
}
