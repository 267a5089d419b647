//! Sizes and times as people write them.

/// Reads a size: a number with `k`, `M`, `G`, `T` or `KiB`, `MiB`, … (steps of 1024), or `kB`, `MB`, … (steps of 1000);
/// without a unit, bytes. None for anything else, and for zero.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let (letter, step) = match unit.as_bytes() {
        [] | [b'b'] => return Some(number).filter(|size| *size > 0),
        [letter] | [letter, b'i', b'b'] => (*letter, 1024_u64),
        [letter, b'b'] => (*letter, 1000),
        _ => return None,
    };
    let power = b"kmgt".iter().position(|known| *known == letter)? + 1;
    number.checked_mul(step.pow(u32::try_from(power).ok()?)).filter(|size| *size > 0)
}

/// The longest time that makes sense as a limit.
const LONGEST_S: u64 = 366 * 86_400;

/// Reads a time in seconds: numbers with `d`, `h`, `m` or `s`, each unit once and the larger first. None for anything
/// else, for zero, and for more than a year.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut seconds = 0_u64;
    let mut units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)].into_iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let letter = rest[digits..].chars().next()?;
        let (_, size) = units.find(|(unit, _)| *unit == letter.to_ascii_lowercase())?;
        seconds = seconds.checked_add(number.checked_mul(size)?)?;
        rest = rest[digits + letter.len_utf8()..].trim_start();
    }
    Some(seconds).filter(|seconds| (1..=LONGEST_S).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, size) in
            [("512", 512), ("4GiB", 4 << 30), ("2g", 2 << 30), ("10 MB", 10_000_000), ("1kB", 1_000), ("7b", 7)]
        {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for bad in ["", "x", "0", "-1", "1.5G", "4 Gigs", "99999999999T", "G"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("2h", 7_200),
            ("1h30m", 5_400),
            ("1d 2h 3m 4s", 93_784),
            ("45M", 2_700),
            (" 366d ", LONGEST_S),
        ] {
            assert_eq!(parse_duration(text), Some(seconds), "{text}");
        }
        for bad in
            ["", "90", "s", "0s", "-1h", "1.5h", "30m1h", "1h1h", "2 weeks", "366d1s", "99999999999999999999h", "1ä"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
