//! Checks as a configuration file has them: commands as strings, the others as tables.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Value};
use crate::domain::Check;

/// What may stand in the list.
const RIGHT: &str = "a command, { file = \"PATH\" } or { metric = \"FILE.json#/POINTER>=NUMBER\" } is expected";

/// Reads the list.
///
/// # Errors
/// For the first check that makes no sense.
pub(super) fn read(items: &[Spanned<DeValue<'_>>], place: &str) -> Result<Value, ConfigError> {
    let checks = items.iter().enumerate().map(|(at, item)| {
        one(item.get_ref()).map_err(|why| ConfigError::Check { place: place.to_owned(), nth: at + 1, why })
    });
    Ok(Value::Checks(checks.collect::<Result<_, _>>()?))
}

fn one(item: &DeValue<'_>) -> Result<Check, String> {
    match item {
        DeValue::String(command) => Ok(Check::Command(command.to_string())),
        DeValue::Table(table) => of_table(table),
        _ => Err(RIGHT.to_owned()),
    }
}

fn of_table(table: &DeTable<'_>) -> Result<Check, String> {
    let mut members = table.iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else { return Err(RIGHT.to_owned()) };
    let name: &str = name.get_ref();
    let text = value.get_ref().as_str().ok_or_else(|| format!("`{name}` must be a string"))?;
    match name {
        "command" => Ok(Check::Command(text.to_owned())),
        "file" => Check::file(text).map_err(|error| format!("`{text}`: {error}")),
        "metric" => Check::metric(text).map_err(|error| format!("`{text}`: {error}")),
        _ => Err(RIGHT.to_owned()),
    }
}
