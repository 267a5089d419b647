//! How large models' windows are: a dated table that comes with the program.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::bare;

#[derive(Deserialize)]
struct Table {
    #[expect(dead_code, reason = "held by a test: whoever changes the table dates it")]
    as_of: String,
    models: BTreeMap<String, u64>,
}

/// The window of a model in tokens, prompt and answer together, by the table; None for a model that is not in it. The
/// longest name that the model's begins with counts: `gpt-5-2025-08-07` and `gpt-5.1` are of `gpt-5`.
pub fn known_window(model: &str) -> Option<u64> {
    let table: Table = toml::from_str(include_str!("windows.toml")).expect("the table is held by a test");
    let model = bare(model);
    let goes_on = |rest: &str| rest.is_empty() || rest.starts_with(['-', '.', ':', '@', '_']);
    let fits = |name: &&String| model.strip_prefix(name.as_str()).is_some_and(goes_on);
    let name = table.models.keys().filter(fits).max_by_key(|name| name.len())?;
    Some(table.models[name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_a_models_begins_with_has_the_window() {
        let of = |model| known_window(model);
        assert_eq!(["gpt-5", "gpt-5-2025-08-07", "gpt-5.1-codex"].map(of), [Some(400_000); 3]);
        assert_eq!((of("gpt-5.4"), of("gpt-5.4-mini")), (Some(1_050_000), Some(400_000)));
        assert_eq!((of("openai/gpt-4o-mini"), of("ft:gpt-4:x:y")), (Some(128_000), Some(8_192)));
        assert_eq!(of("anthropic/claude-sonnet-4.5"), Some(200_000));
        for unknown in ["", "qwen3", "gpt-50", "o33", "gpt", "llama3.1:8b", "davinci"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }
}
