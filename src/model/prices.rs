//! What tokens cost: a dated table that comes with the program, and what a person says instead.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::OPENAI_BASE_URL;
use crate::domain::Price;

#[derive(Deserialize)]
struct Table {
    as_of: String,
    models: BTreeMap<String, [f64; 3]>,
}

/// The price of a model at OpenAI's own server, by the table; None for every other server and for a model that is not in
/// it. A dated name, such as `gpt-5-2025-08-07`, has its family's price.
pub fn known_price(base_url: &str, model: &str) -> Option<Price> {
    if base_url.trim_end_matches('/') != OPENAI_BASE_URL {
        return None;
    }
    let table: Table = toml::from_str(include_str!("prices.toml")).expect("the table is held by a test");
    let is_date = |rest: &str| rest.strip_prefix('-').is_some_and(|rest| rest.starts_with("20"));
    let fits = |name: &&String| model.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || is_date(rest));
    let name = table.models.keys().filter(fits).max_by_key(|name| name.len())?;
    let [input, cached, output] = table.models[name];
    price(input, cached, output, format!("the program's table of {}", table.as_of))
}

/// Reads a price as a person gives it: dollars per million tokens of prompt, cached prompt and answer, with commas
/// between them; the one in the middle may be left out and is then that of the prompt.
///
/// # Errors
/// What would be right.
pub fn parse_price(text: &str) -> Result<Price, &'static str> {
    const RIGHT: &str = "dollars per million tokens as INPUT,CACHED,OUTPUT or INPUT,OUTPUT, such as 1.25,0.125,10";
    let parts: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let (input, cached, output) = match parts.as_deref() {
        Some([input, output]) => (*input, *input, *output),
        Some([input, cached, output]) => (*input, *cached, *output),
        _ => return Err(RIGHT),
    };
    price(input, cached, output, "as given".to_owned()).ok_or(RIGHT)
}

/// None for what is negative, no number, or beyond all reason.
fn price(input: f64, cached: f64, output: f64, source: String) -> Option<Price> {
    let millionths = |dollars: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        (0.0..=1e6).contains(&dollars).then(|| (dollars * 1e6).round() as u64)
    };
    Some(Price { input: millionths(input)?, cached: millionths(cached)?, output: millionths(output)?, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_fits_has_the_price() {
        let of =
            |model: &str| known_price(OPENAI_BASE_URL, model).map(|price| (price.input, price.cached, price.output));
        assert_eq!(of("gpt-5"), Some((1_250_000, 125_000, 10_000_000)));
        assert_eq!(of("gpt-5-2025-08-07"), of("gpt-5"));
        assert_eq!(of("gpt-5-mini"), Some((250_000, 25_000, 2_000_000)));
        assert_eq!((of("gpt-5-turbo"), of("gpt-6"), of("qwen3")), (None, None, None));
        assert_eq!(known_price("http://127.0.0.1:8000/v1", "gpt-5"), None, "another server has other prices");
        assert!(known_price("https://api.openai.com/v1/", "o3").unwrap().source.contains("2026"));
    }

    #[test]
    fn a_price_is_read_and_nonsense_refused() {
        let price = parse_price("1.25, 0.125, 10").unwrap();
        assert_eq!((price.input, price.cached, price.output), (1_250_000, 125_000, 10_000_000));
        assert_eq!(parse_price("2,8").unwrap().cached, 2_000_000);
        for bad in ["", "1", "-1,2", "1,2,3,4", "NaN,1", "1,inf", "a,b", "1e9,1"] {
            assert!(parse_price(bad).is_err(), "{bad}");
        }
    }
}
