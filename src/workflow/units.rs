//! Times and sizes as workflow files say them.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time, such as `30s`, `10m` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A size, such as `512Mi` or `16Gi`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const TIME: &str = "^([0-9]+(ms|s|m|h|d))+$";
const SIZE: &str = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|K|M|G|T)?B?$";
/// What is said where a value is none.
const A_TIME: &str = "a time such as 30s, 10m or 1h30m";
const A_SIZE: &str = "a size such as 512Mi or 16Gi";
/// A hundred years: what is longer is a mistake.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Time {
    fn read(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
            let ms: u64 = match &rest[digits..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            sum = sum.checked_add(Duration::from_millis(number.checked_mul(ms)?))?;
            rest = &rest[unit..];
        }
        (!text.is_empty() && sum <= LONGEST).then_some(Self(sum))
    }
}

impl Size {
    fn read(text: &str) -> Option<Self> {
        let bare = text.strip_suffix('B').unwrap_or(text);
        let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
        let number: f64 = bare[..end].parse().ok()?;
        let unit: u64 = match &bare[end..] {
            "" => 1,
            "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        #[expect(clippy::cast_precision_loss, reason = "a unit is a power of ten or two")]
        let bytes = number * unit as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held against both ends")]
        (0.0..9e18).contains(&bytes).then_some(Self(bytes as u64))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not {A_TIME}")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not {A_SIZE}")))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.as_millis();
        match ms % 1_000 {
            0 => serializer.collect_str(&format_args!("{}s", ms / 1_000)),
            _ => serializer.collect_str(&format_args!("{ms}ms")),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": TIME, "description": A_TIME, "examples": ["30s", "10m", "1h30m"] })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SIZE, "description": A_SIZE, "examples": ["512Mi", "16Gi"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_they_are_meant() {
        let time = |text: &str| Time::read(text).map(|time| time.0.as_millis());
        assert_eq!(
            [time("30s"), time("1h30m"), time("250ms"), time("1d")].map(Option::unwrap_or_default),
            [30_000, 5_400_000, 250, 86_400_000]
        );
        for bad in ["", "30", "s", "1x", "1h 30m", "-1s", "99999999999999999999s", "9999999999d"] {
            assert_eq!(time(bad), None, "{bad}");
        }
        let size = |text: &str| Size::read(text).map(|size| size.0);
        assert_eq!(
            [size("512Mi"), size("1.5GiB"), size("2K"), size("7")].map(Option::unwrap_or_default),
            [512 << 20, 3 << 29, 2_000, 7]
        );
        for bad in ["", "Mi", "1X", "-1Mi", "1e9", "99999999999999999999T"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
