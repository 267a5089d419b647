//! For how long a failure itself says to wait: `Retry-After`, "try again in 30 s", a date.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;

/// A number without a unit, as in the header: seconds.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    regex(r#"retry[-_ ]after(?:[-_ ]s\w*)?["']?\s*[:=]?\s*["']?(\d{1,7})(?:\.\d+)?["',]*\s*(?:$|[,}\]])"#)
});
/// A length of time with its units: `6m0s`, `1.5 seconds`.
static LENGTH: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?:again (?:in|after)|retry(?:ing)?(?:[-_ ](?:in|after))?|wait(?:ing)?(?: for)?|reset\w* (?:in|after))[\s:=]*(?:about |at least )?((?:\d{1,7}(?:\.\d+)?\s*(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)[\s,]*){1,3})",
    )
});
/// A moment: as in the header, or as ISO 8601 has it.
static MOMENT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?:retry|again|reset)[\w -]{0,20}["']?\s*[:=]?\s*["']?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)|[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT)"#,
    )
});

/// The time from `now` on that the output says to wait; the last word counts. None where it says nothing.
pub fn told_time(output: &str, now: Timestamp) -> Option<Duration> {
    let at = |regex: &Regex| {
        let found = regex.captures_iter(output).last()?;
        let value = found.get(1)?;
        Some((value.start(), value.as_str().to_owned()))
    };
    let header = at(&HEADER).and_then(|(at, value)| Some((at, Duration::from_secs(value.parse().ok()?))));
    let length = at(&LENGTH).and_then(|(at, value)| Some((at, length_of(&value)?)));
    let moment = at(&MOMENT).and_then(|(at, value)| Some((at, moment_of(&value, now)?)));
    [header, length, moment].into_iter().flatten().max_by_key(|(at, _)| *at).map(|(_, time)| time)
}

fn length_of(words: &str) -> Option<Duration> {
    let length: SignedDuration = words.trim().trim_end_matches(',').parse().ok()?;
    Duration::try_from(length).ok()
}

fn moment_of(words: &str, now: Timestamp) -> Option<Duration> {
    let by_mail = || jiff::fmt::rfc2822::parse(words).ok().map(|moment| moment.timestamp());
    let moment = words.parse::<Timestamp>().ok().or_else(by_mail)?;
    Some(Duration::try_from(moment.duration_since(now)).unwrap_or_default())
}

fn regex(pattern: &str) -> Regex {
    let built = regex::RegexBuilder::new(pattern).multi_line(true).case_insensitive(true).build();
    built.expect("the pattern is fixed and tested")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_read() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let seconds = |text: &str| told_time(text, now).map(|time| time.as_secs_f64());
        assert_eq!(seconds("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\n"), Some(2.0));
        assert_eq!(seconds("< retry-after: 120"), Some(120.0));
        assert_eq!(seconds(r#"{"retry_after": 30, "x": 1}"#), Some(30.0));
        assert_eq!(seconds("Rate limit reached. Please try again in 6m0s."), Some(360.0));
        assert_eq!(seconds("please try again in 20ms"), Some(0.02));
        assert_eq!(seconds("Try again in 30 s"), Some(30.0));
        assert_eq!(seconds("too many requests, wait 5 minutes"), Some(300.0));
        assert_eq!(seconds("Retry-After: Sun, 01 Mar 2026 12:01:00 GMT"), Some(60.0));
        assert_eq!(seconds("your limit resets at 2026-03-01T13:00:00Z"), Some(3600.0));
        assert_eq!(seconds("resets at 2026-03-01T11:00:00Z"), Some(0.0), "it is over");
        assert_eq!(seconds("try again in 1 s\n…\ntry again in 3 s"), Some(3.0), "the last word");
        assert_eq!(seconds("curl: (22) The requested URL returned error: 429"), None);
        assert_eq!(seconds("retry 3 of 5 failed after 12 tries"), None);
    }
}
