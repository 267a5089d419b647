//! Server-sent events out of bytes, however those are split: BOM, CR, CRLF, LF and comments included.
//!
//! Linear in the bytes, without recursion, and never at a loss: invalid UTF-8 becomes U+FFFD.

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The `event:` field; empty where there was none.
    pub(super) name: String,
    /// The `data:` lines, joined by newlines.
    pub(super) data: String,
}

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    after_cr: bool,
    past_first_line: bool,
}

impl Decoder {
    /// Takes some bytes and appends the events that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) {
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, rest) = bytes.split_at(at);
            let ends_crlf = self.after_cr && at == 0 && rest[0] == b'\n';
            self.after_cr = rest[0] == b'\r';
            bytes = &rest[1..];
            if ends_crlf {
                continue;
            }
            self.line.extend_from_slice(head);
            self.end_line(events);
        }
        if !bytes.is_empty() {
            self.after_cr = false;
            self.line.extend_from_slice(bytes);
        }
    }

    /// Takes the end of the stream: what was begun counts as complete.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        if !self.line.is_empty() {
            self.end_line(events);
        }
        self.dispatch(events);
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(events);
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match field {
            b"event" => self.name = value.into_owned(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => self.data = Some(value.into_owned()),
            },
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            events.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(parts: &[&[u8]]) -> Vec<Event> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for part in parts {
            decoder.push(part, &mut events);
        }
        decoder.finish(&mut events);
        events
    }

    fn data(parts: &[&[u8]]) -> Vec<String> {
        decode(parts).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn all_line_ends_and_a_bom_are_understood() {
        assert_eq!(data(&[b"\xEF\xBB\xBFdata: a\r\n\r\ndata:b\n\ndata: c\r\rdata"]), ["a", "b", "c", ""]);
        assert_eq!(data(&[b"data: a\r", b"\n", b"\r", b"\ndata: b\r\n\r\n"]), ["a", "b"]);
    }

    #[test]
    fn comments_ids_and_unknown_fields_are_no_data() {
        assert_eq!(data(&[b": ping\n\nid: 7\nretry: 3\nfoo: x\n\ndata: a\ndata: b\n\n"]), ["a\nb"]);
        let events = decode(&[b"event: ping\ndata: {}\n\ndata: x\n\n"]);
        assert_eq!(events[0], Event { name: "ping".to_owned(), data: "{}".to_owned() });
        assert_eq!(events[1].name, "");
    }

    #[test]
    fn an_unterminated_last_event_counts() {
        assert_eq!(data(&[b"data: a\n\ndata: [DONE]"]), ["a", "[DONE]"]);
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_gives_the_same_events(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(b"data: {\"a\":\"\xC3\xA9\"}".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()),
                    Just(b"\r\n\r\n".to_vec()), Just(b": c".to_vec()), Just(b"event: e".to_vec()),
                    Just(b"\xEF\xBB\xBF".to_vec()), prop::collection::vec(any::<u8>(), 0..5),
                ], 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let whole = pieces.concat();
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let parts: Vec<_> = at.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&parts), decode(&[&whole]));
        }
    }
}
