//! Sessions of boxes that benches work in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longhaul::clock::SystemClock;
use longhaul::guest::TermSize;
use longhaul::terminal::{ExcerptBudget, TerminalOptions};

/// Sessions in the project.
pub(crate) fn options(dir: &Path) -> TerminalOptions {
    TerminalOptions {
        workspace: dir.join("project").to_string_lossy().into_owned(),
        env: BTreeMap::new(),
        size: TermSize::default(),
        logs: "sessions".to_owned(),
        budget: ExcerptBudget::default(),
        clock: Arc::new(SystemClock::new()),
    }
}
