//! The forms in which a declared secret may turn up.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A shorter piece of base 64 is too likely to turn up by chance.
const SHORTEST_BASE64: usize = 8;

/// `value` itself, in JSON, percent-encoded, in hex, and in base 64 wherever it may begin in a longer text.
pub(super) fn encodings_of(value: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![value.as_bytes().to_vec()];
    let mut add = |form: String| {
        if !forms.iter().any(|known| known == form.as_bytes()) {
            forms.push(form.into_bytes());
        }
    };
    let json = serde_json::to_string(value).expect("a string is JSON");
    add(json[1..json.len() - 1].to_owned());
    for upper in [true, false] {
        add(percent_encoded(value, upper));
        add(hex(value, upper));
    }
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let form = base64_within(engine, value, before);
            if form.len() >= SHORTEST_BASE64 {
                add(form);
            }
        }
    }
    forms
}

/// The part of the base 64 of a text that depends on `value` alone, if `before` bytes (modulo 3) come before it.
fn base64_within(engine: &impl base64::Engine, value: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value.as_bytes());
    let encoded = engine.encode(&bytes);
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    encoded[first..last].to_owned()
}

fn percent_encoded(value: &str, upper: bool) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if upper => out.push_str(&format!("%{byte:02X}")),
            byte => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

fn hex(value: &str, upper: bool) -> String {
    let lower: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    if upper { lower.to_ascii_uppercase() } else { lower }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn base64_is_found_at_each_alignment() {
        let secret = "correct horse?>~battery";
        let forms = encodings_of(secret);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            for before in ["", "a", "ab", "abc", "user:"] {
                for after in ["", "x", "xy", "xyz"] {
                    let encoded = engine.encode(format!("{before}{secret}{after}"));
                    let found = |form: &Vec<u8>| memchr::memmem::find(encoded.as_bytes(), form).is_some();
                    assert!(forms.iter().any(found), "{before} {after}");
                }
            }
        }
    }
}
