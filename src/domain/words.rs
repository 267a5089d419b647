//! Times and sizes as people say them.

/// A duration as people say it: `0.12 s`, `3.4 s`, `2 min 05 s`, `3 h 07 min`.
pub fn duration_words(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("0.{:02} s", milliseconds / 10),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A number of seconds, such as an estimate, as people say it: whole where it is; None for what is no time.
pub fn seconds_words(seconds: f64) -> Option<String> {
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    let milliseconds = u64::try_from(time.as_millis()).ok()?;
    Some(match (milliseconds / 1000, milliseconds % 1000) {
        (whole @ 0..60, 0) => format!("{whole} s"),
        (whole @ 60..3600, _) if whole % 60 == 0 => format!("{} min", whole / 60),
        (whole @ 3600.., _) if whole / 60 % 60 == 0 => format!("{} h", whole / 3600),
        _ => duration_words(milliseconds),
    })
}

/// A size: `12 B`, `3.4 kB`, `5.6 MB`.
pub fn size_words(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

/// The name that differs least from what was typed, if it is not much: what was meant.
pub fn most_alike<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(typed, name);
    let nearest = names.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= 1 + typed.len() / 4).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_people_say_them() {
        let said: Vec<String> = [0, 120, 3_456, 125_000, 11_220_000].into_iter().map(duration_words).collect();
        assert_eq!(said, ["0.00 s", "0.12 s", "3.4 s", "2 min 05 s", "3 h 07 min"]);
        let sizes: Vec<String> = [12, 3_456, 5_678_901, 1_200_000_000].into_iter().map(size_words).collect();
        assert_eq!(sizes, ["12 B", "3.4 kB", "5.6 MB", "1.2 GB"]);
    }

    #[test]
    fn an_estimate_is_said_without_needless_digits() {
        let said = |seconds| seconds_words(seconds).unwrap_or_else(|| "none".to_owned());
        assert_eq!([0.5, 5.0, 60.0, 90.0].map(said), ["0.50 s", "5 s", "1 min", "1 min 30 s"]);
        assert_eq!(
            [21_600.0, 5_400.0, -1.0, f64::NAN, f64::MAX].map(said),
            ["6 h", "1 h 30 min", "none", "none", "none"]
        );
    }
}
