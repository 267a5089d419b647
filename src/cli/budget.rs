//! What a run may cost, from what was said about it.

use std::collections::BTreeMap;

use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, ToSpan as _, Zoned};

use super::Failure;
use crate::config::Config;
use crate::domain::{Budget, ExitReason, Price};
use crate::model::{Fallback, OPENAI_BASE_URL, known_price, parse_price};

/// The budget that the settings and the flag `--deadline` make.
///
/// # Errors
/// For a limit on money where the price is not known, and for a deadline that makes no sense.
pub(super) fn of(config: &Config, fallbacks: &[Fallback], deadline: Option<&str>) -> Result<Budget, Failure> {
    let price = price(config)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the setting was checked")]
    let max_cost = config.max_cost.value.map(|dollars| (dollars * 1e6).round() as u64);
    let unknown = |model: &str, hint: &str| {
        Failure::new(ExitReason::Usage, "a limit on money can't be held")
            .because(format!("the price of `{model}` at its server is not known"))
            .hint(format!("say it with {hint} in US dollars per million tokens, or limit `--max-tokens`"))
    };
    if max_cost.is_some() && price.is_none() {
        let model = config.model.value.as_deref().unwrap_or_default();
        return Err(unknown(model, "`--price INPUT,CACHED,OUTPUT`"));
    }
    let server = config.base_url.value.as_deref().unwrap_or(OPENAI_BASE_URL);
    let mut fallback_prices = BTreeMap::new();
    for fallback in fallbacks {
        let url = fallback.base_url.as_deref().unwrap_or(server);
        let name = fallback.shown();
        match fallback.price.clone().or_else(|| known_price(url, &fallback.name)) {
            Some(price) => drop(fallback_prices.insert(name, price)),
            None if max_cost.is_some() => {
                return Err(unknown(&name, &format!("`--fallback {name}=INPUT,CACHED,OUTPUT`")));
            }
            None => {}
        }
    }
    let deadline = deadline.map(|text| moment(text, &Zoned::now())).transpose()?;
    Ok(Budget { max_tokens: config.max_tokens.value, max_cost, deadline, price, fallback_prices })
}

fn price(config: &Config) -> Result<Option<Price>, Failure> {
    let Some(text) = &config.price.value else {
        let model = config.model.value.as_deref().unwrap_or_default();
        return Ok(known_price(config.base_url.value.as_deref().unwrap_or(OPENAI_BASE_URL), model));
    };
    parse_price(text).map(Some).map_err(|right| {
        Failure::new(ExitReason::Usage, format!("`{text}` is no price")).because(format!("it must be {right}"))
    })
}

/// A moment to come: a time of day, a date and time here, or one with its zone.
fn moment(text: &str, now: &Zoned) -> Result<Timestamp, Failure> {
    let cannot = |because: &str| {
        Failure::new(ExitReason::Usage, format!("`--deadline {text}` makes no sense")).because(because.to_owned())
    };
    let here = |at: DateTime| at.to_zoned(now.time_zone().clone()).ok();
    let found = if let Ok(at) = text.parse::<Timestamp>() {
        Some(at)
    } else if let Ok(at) = text.parse::<DateTime>() {
        // Before a mere time: the parser of that takes what stands before it in its stride.
        here(at).map(|at| at.timestamp())
    } else if let Ok(time) = text.parse::<Time>() {
        let today = here(now.date().to_datetime(time));
        let next = today.and_then(|at| if at > *now { Some(at) } else { at.checked_add(1.day()).ok() });
        next.map(|at| at.timestamp())
    } else {
        None
    };
    match found {
        None => Err(cannot("it must be a time such as 18:00, 2026-01-31T18:00 or 2026-01-31T18:00Z")),
        Some(at) if at <= now.timestamp() => Err(cannot("it has passed")),
        Some(at) => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_to_come() {
        let now: Zoned = "2026-01-31T17:00:00+01:00[Europe/Berlin]".parse().expect("a time");
        let of = |text: &str| moment(text, &now).map(|at| at.to_string()).map_err(|failure| failure.because.join(""));
        assert_eq!(of("18:00").unwrap(), "2026-01-31T17:00:00Z");
        assert_eq!(of("16:30").unwrap(), "2026-02-01T15:30:00Z", "the next one");
        assert_eq!(of("2026-02-01T08:00").unwrap(), "2026-02-01T07:00:00Z");
        assert_eq!(of("2026-02-01T08:00Z").unwrap(), "2026-02-01T08:00:00Z");
        assert!(of("2026-01-31T16:00").unwrap_err().contains("passed"));
        assert!(of("tomorrow").unwrap_err().contains("18:00"));
    }
}
