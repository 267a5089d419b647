//! Names of keys, as tmux has them, and the bytes that a terminal sends for them.

/// Most keys of one call.
const MOST: usize = 200;

/// Keys that send the same whatever the program asked for.
const NAMED: [(&str, &str); 23] = [
    ("Enter", "\r"),
    ("Tab", "\t"),
    ("BTab", "\x1b[Z"),
    ("Escape", "\x1b"),
    ("Space", " "),
    ("BSpace", "\x7f"),
    ("IC", "\x1b[2~"),
    ("DC", "\x1b[3~"),
    ("PageUp", "\x1b[5~"),
    ("PageDown", "\x1b[6~"),
    ("PPage", "\x1b[5~"),
    ("NPage", "\x1b[6~"),
    ("F1", "\x1bOP"),
    ("F2", "\x1bOQ"),
    ("F3", "\x1bOR"),
    ("F4", "\x1bOS"),
    ("F5", "\x1b[15~"),
    ("F6", "\x1b[17~"),
    ("F7", "\x1b[18~"),
    ("F8", "\x1b[19~"),
    ("F9", "\x1b[20~"),
    ("F10", "\x1b[21~"),
    ("F11", "\x1b[23~"),
];

const F12: (&str, &str) = ("F12", "\x1b[24~");

/// Keys whose last byte follows `ESC [`, or `ESC O` where the program asked for that.
const CURSOR: [(&str, u8); 6] =
    [("Up", b'A'), ("Down", b'B'), ("Right", b'C'), ("Left", b'D'), ("Home", b'H'), ("End", b'F')];

/// What exists, for who asked for something else.
const KNOWN: &str = "Enter, Tab, BTab, Escape, Space, BSpace, IC, DC, Up, Down, Left, Right, Home, End, PageUp, \
                     PageDown, F1 to F12, C-a to C-z, C-Space, C-[, C-\\, C-], C-^, C-_, M- before any of them or \
                     before a character, and single characters";

/// The bytes of some keys.
///
/// # Errors
/// In words, for a name that means nothing.
pub(super) fn bytes(keys: &[String], application_keys: bool) -> Result<Vec<u8>, String> {
    if keys.is_empty() {
        return Err(format!("keys: is empty; the keys are {KNOWN}"));
    }
    if keys.len() > MOST {
        return Err(format!("keys: {} keys are more than {MOST} at once", keys.len()));
    }
    let mut all = Vec::new();
    for key in keys {
        all.extend(one(key, application_keys).ok_or_else(|| {
            format!("keys: there is no key {}; the keys are {KNOWN}. For text use send", super::shown(key))
        })?);
    }
    Ok(all)
}

fn one(key: &str, application_keys: bool) -> Option<Vec<u8>> {
    if let Some((_, bytes)) = NAMED.iter().chain([&F12]).find(|(name, _)| *name == key) {
        return Some(bytes.as_bytes().to_vec());
    }
    if let Some((_, last)) = CURSOR.iter().find(|(name, _)| *name == key) {
        return Some(vec![0x1b, if application_keys { b'O' } else { b'[' }, *last]);
    }
    if let Some(rest) = key.strip_prefix("M-") {
        let mut bytes = vec![0x1b];
        bytes.extend(one(rest, application_keys)?);
        return Some(bytes);
    }
    if let Some(rest) = key.strip_prefix("C-") {
        return control(rest).map(|byte| vec![byte]);
    }
    let mut chars = key.chars();
    let only = chars.next().filter(|c| !c.is_control() && chars.next().is_none())?;
    Some(only.to_string().into_bytes())
}

fn control(key: &str) -> Option<u8> {
    match key.as_bytes() {
        [letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(letter & 0x1f),
        [b'@'] | b"Space" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[&str]) -> Result<Vec<u8>, String> {
        bytes(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn keys_send_what_a_terminal_sends() {
        assert_eq!(typed(&["Escape", ":", "q", "!", "Enter"]).unwrap(), b"\x1b:q!\r");
        assert_eq!(typed(&["C-c", "C-D", "C-Space", "C-["]).unwrap(), b"\x03\x04\0\x1b");
        assert_eq!(
            typed(&["M-x", "M-Enter", "F12", "DC", "\u{e9}"]).unwrap(),
            "\x1bx\x1b\r\x1b[24~\x1b[3~é".as_bytes()
        );
        assert_eq!(one("Up", false).unwrap(), b"\x1b[A");
        assert_eq!(one("Up", true).unwrap(), b"\x1bOA");
    }

    #[test]
    fn an_unknown_key_is_answered_with_what_exists() {
        for bad in ["Return", "C-1", "M-", "", "ls -l", "F13", "\x1b"] {
            let told = typed(&["Enter", bad]).unwrap_err();
            assert!(told.contains("PageDown, F1 to F12"), "{bad:?}: {told}");
        }
        let long = typed(&[&"x".repeat(10_000)]).unwrap_err();
        assert!(long.len() < 700 && long.contains("10000 bytes"), "{long}");
        assert!(typed(&[]).is_err() && typed(&["a"; 201]).is_err());
    }
}
