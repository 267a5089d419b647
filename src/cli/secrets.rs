//! Which values of the surroundings must never be recorded.

use crate::telemetry::Secret;

use super::Place;

/// Parts of variable names whose values are taken for secrets.
const TELLING: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"];
/// Endings of variable names whose values only say where something is.
const HARMLESS: [&str; 7] = ["_FILE", "_PATH", "_DIR", "_SOCK", "_URL", "_HOST", "_ID"];

/// The values of all variables whose names tell that they are secret.
pub(super) fn of(place: &Place) -> Vec<Secret> {
    let named = place.vars.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let telling = named.filter(|(name, _)| {
        let name = name.to_ascii_uppercase();
        TELLING.iter().any(|part| name.contains(part)) && !HARMLESS.iter().any(|end| name.ends_with(end))
    });
    telling
        .filter(|(_, value)| !value.starts_with('/'))
        .map(|(name, value)| Secret { name: name.to_owned(), value: value.to_owned() })
        .collect()
}
