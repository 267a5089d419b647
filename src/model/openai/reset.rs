//! How long a server asks to be left alone, in all the ways in which servers say it.
//!
//! No clock is read: a date counts from the `Date` that stands beside it.

use std::time::Duration;

use http::HeaderMap;

/// The wait that the headers ask for, or else the words; None where neither does.
pub(super) fn asked_wait(headers: &HeaderMap, words: &str) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = text("date").and_then(|date| httpdate::parse_http_date(date).ok());
    let until = |moment: std::time::SystemTime| moment.duration_since(date?).ok();
    let retry_after = |value: &str| seconds(value).or_else(|| until(httpdate::parse_http_date(value).ok()?));
    let reset = |value: &str| match value.parse::<f64>() {
        Ok(epoch_ms) if epoch_ms > 1e11 => until(epoch(epoch_ms / 1e3)?),
        Ok(epoch_s) if epoch_s > 1e9 => until(epoch(epoch_s)?),
        _ => spelled(value),
    };
    let limit = |what: &str| {
        let wait = text(&format!("x-ratelimit-reset{what}")).and_then(reset)?;
        Some((wait, text(&format!("x-ratelimit-remaining{what}")) == Some("0")))
    };
    let limits: Vec<_> = ["", "-requests", "-tokens"].into_iter().filter_map(limit).collect();
    let spent = limits.iter().filter(|(_, spent)| *spent).map(|(wait, _)| *wait).max();
    text("retry-after-ms")
        .and_then(|value| Some(seconds(value)? / 1000))
        .or_else(|| text("retry-after").and_then(retry_after))
        .or_else(|| in_words(words))
        .or(spent)
        .or_else(|| limits.iter().map(|(wait, _)| *wait).min())
}

fn epoch(since_s: f64) -> Option<std::time::SystemTime> {
    std::time::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(since_s).ok()?)
}

fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// A duration such as `6m0s`, `1h2m3.5s`, `120ms` or `17`.
fn spelled(value: &str) -> Option<Duration> {
    if let Some(plain) = seconds(value) {
        return Some(plain);
    }
    let mut rest = value;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor = match unit {
            "ms" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()?)?;
        rest = tail;
    }
    (sum > Duration::ZERO).then_some(sum)
}

/// A duration after `try again in` or `retry in`, as several providers put it in their messages.
fn in_words(words: &str) -> Option<Duration> {
    let words = words.to_ascii_lowercase();
    let after = ["try again in ", "retry in ", "retry after "].iter().find_map(|lead| words.split_once(lead))?.1;
    let mut tokens = after.split_whitespace();
    let first = tokens.next()?.trim_end_matches(['.', ',', ')']);
    if first.parse::<f64>().is_ok() {
        let unit = tokens.next().unwrap_or("s").trim_end_matches(['.', ',', ')']);
        return spelled(&format!("{first}{unit}"));
    }
    spelled(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)], words: &str) -> Option<f64> {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        asked_wait(&headers.collect(), words).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        assert_eq!(wait(&[("retry-after", "3")], ""), Some(3.0));
        assert_eq!(wait(&[("retry-after", " 0.5 ")], ""), Some(0.5));
        assert_eq!(wait(&[("retry-after", "9"), ("retry-after-ms", "250")], ""), Some(0.25));
        let dates = [("retry-after", "Wed, 21 Oct 2015 07:28:10 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
        assert_eq!(wait(&dates, ""), Some(10.0));
        assert_eq!(wait(&dates[..1], ""), None, "a date without a date beside it says nothing");
    }

    #[test]
    fn reset_headers_count_where_their_limit_is_spent() {
        let headers = [
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0.5s"),
            ("x-ratelimit-remaining-tokens", "0"),
        ];
        assert_eq!(wait(&headers, ""), Some(360.5));
        assert_eq!(wait(&headers[..2], ""), Some(1.0));
        let epoch = [("x-ratelimit-reset", "1445412490000"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")];
        assert_eq!(wait(&epoch, ""), Some(10.0));
    }

    #[test]
    fn words_count_where_headers_say_nothing() {
        assert_eq!(wait(&[], "Rate limit reached. Please try again in 1m2.5s. Visit…"), Some(62.5));
        assert_eq!(wait(&[], "Please retry in 20 seconds."), Some(20.0));
        assert_eq!(wait(&[("retry-after", "3")], "try again in 20s"), Some(3.0));
        assert_eq!(wait(&[], "try again in a moment"), None);
    }

    #[test]
    fn nonsense_is_no_wait() {
        for value in ["", "-1", "NaN", "inf", "1e300", "soon", "ms", "1y", "Wed, 99 Oct"] {
            assert_eq!(wait(&[("retry-after", value), ("x-ratelimit-reset", value)], ""), None, "{value}");
        }
    }
}
