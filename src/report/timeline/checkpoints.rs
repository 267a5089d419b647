//! Runs taken up again and forked, checkpoints and sidecars, in the timeline.

use super::super::style::duration;
use super::super::visible;
use super::{Detail, Timeline};
use crate::domain::{BoxReturn, Checkpoint, CheckpointId, Consistency, RunSpec, size_words};

impl Timeline {
    pub(super) fn resumed(&self, away_ms: u64, found: BoxReturn, notes: &[String]) -> String {
        let mut words = format!("taken up again after {}; the box {}", duration(away_ms), found.words());
        for note in notes {
            words.push_str(&format!("\n{}", visible(note)));
        }
        self.line("resumed", &words)
    }

    pub(super) fn forked(&self, spec: &RunSpec) -> String {
        let from = spec.parent.as_ref().map(|parent| match parent.checkpoint {
            Some(checkpoint) => format!("from run {} at entry {}, checkpoint {checkpoint}", parent.run, parent.seq),
            None => format!("from run {} at entry {}", parent.run, parent.seq),
        });
        let from = from.unwrap_or_else(|| "from another run".to_owned());
        self.line("forked", &format!("{from}; this is run {}, with model {}", spec.run, visible(&spec.model)))
    }

    pub(super) fn checkpoint_taken(&self, checkpoint: &Checkpoint) -> String {
        let snapshot = &checkpoint.snapshot;
        let name = checkpoint.name.as_ref().map(|name| format!(" `{}`", visible(name))).unwrap_or_default();
        let mut words = format!(
            "{}{name} {}: {} new in {}",
            checkpoint.id,
            checkpoint.reason.words(),
            size_words(snapshot.new_bytes),
            duration(snapshot.took_ms)
        );
        match &snapshot.consistency {
            Consistency::Unfrozen { why } => {
                words.push_str(&format!("; processes ran on meanwhile: {}", visible(why)));
            }
            Consistency::Frozen { by, held_ms } if self.detail == Detail::Full => {
                words.push_str(&format!("; processes were held for {held_ms} ms by {}", visible(by)));
            }
            Consistency::Frozen { .. } | Consistency::Stopped => {}
        }
        if !snapshot.left_out.is_empty() {
            words.push_str(&format!("; without {}", visible(&snapshot.left_out.join(", "))));
        }
        self.line("saved", &words)
    }

    pub(super) fn restore_started(&self, checkpoint: CheckpointId, saved: Option<CheckpointId>) -> String {
        let left = saved.map(|saved| format!("; what is left behind is {saved}")).unwrap_or_default();
        self.line("restore", &format!("going back to {checkpoint}{left}"))
    }

    pub(super) fn checkpoint_restored(&self, checkpoint: CheckpointId, notes: &[String]) -> String {
        let mut words = format!("back at {checkpoint}");
        for note in notes {
            words.push_str(&format!("\n{}", visible(note)));
        }
        self.line("restored", &words)
    }

    pub(super) fn sidecar_started(&self, name: &str, image: Option<&str>) -> String {
        let image = image.map(|image| format!(", image {image}")).unwrap_or_default();
        self.line("sidecar", &visible(&format!("{name} runs{image}")))
    }

    pub(super) fn image_saved(&self, name: &str, left_out: &[String]) -> String {
        let without = match left_out {
            [] => String::new(),
            left_out => format!("; without {}", left_out.join(", ")),
        };
        self.line("image", &visible(&format!("the box is kept as {name}{without}")))
    }
}
