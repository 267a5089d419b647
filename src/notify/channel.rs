//! The ways to reach a person.

use std::fmt;
use std::str::FromStr;

/// A way to reach a person.
#[derive(Clone, PartialEq, Eq)]
pub enum Channel {
    /// A command of the host's shell, which is given the message on its standard input.
    Command(String),
    /// The desktop, by `notify-send`.
    Desktop,
    /// The terminal's bell, and its own notification.
    Bell,
    /// A URL that the message is posted to.
    Webhook(reqwest::Url),
}

/// Why something is no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It says nothing.
    #[error("it is empty")]
    Empty,
    /// It is no URL.
    #[error("it is no URL: {0}")]
    NoUrl(String),
    /// It would send what the run says in the clear.
    #[error("over `http://` it could be read on its way; only `https://` may leave this machine")]
    Unencrypted,
}

impl Channel {
    /// Its name for people, without what may be secret in it.
    pub fn name(&self) -> String {
        match self {
            Self::Command(command) => format!("the command `{}`", command.lines().next().unwrap_or_default()),
            Self::Desktop => "the desktop".to_owned(),
            Self::Bell => "the terminal's bell".to_owned(),
            Self::Webhook(url) => format!("the webhook at {}", url.host_str().unwrap_or_default()),
        }
    }

    /// What of it must never be recorded: the address of a webhook is its key.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Webhook(url) => Some(url.as_str()),
            Self::Command(_) | Self::Desktop | Self::Bell => None,
        }
    }
}

/// Without what may be secret in it.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Channel {
    type Err = ChannelError;

    /// `desktop`, `bell`, a URL, or else a command.
    fn from_str(text: &str) -> Result<Self, ChannelError> {
        let text = text.trim();
        match text {
            "" => Err(ChannelError::Empty),
            "desktop" => Ok(Self::Desktop),
            "bell" => Ok(Self::Bell),
            _ if text.starts_with("https://") || text.starts_with("http://") => webhook(text),
            _ => Ok(Self::Command(text.to_owned())),
        }
    }
}

fn webhook(text: &str) -> Result<Channel, ChannelError> {
    let url: reqwest::Url = text.parse().map_err(|error| ChannelError::NoUrl(format!("{error}")))?;
    match url.scheme() == "https" || is_loopback(&url) {
        true => Ok(Channel::Webhook(url)),
        false => Err(ChannelError::Unencrypted),
    }
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_word_a_url_or_a_command() {
        let read = |text: &str| text.parse::<Channel>();
        assert_eq!(read(" desktop "), Ok(Channel::Desktop));
        assert_eq!(read("bell"), Ok(Channel::Bell));
        assert_eq!(read("tee -a /tmp/x"), Ok(Channel::Command("tee -a /tmp/x".to_owned())));
        assert_eq!(read("http://127.0.0.1:8080/x").unwrap().name(), "the webhook at 127.0.0.1");
        let secret = read("https://hooks.example.org/T0/secret").unwrap();
        assert!(!format!("{secret:?}").contains("secret"));
        assert_eq!(read("http://example.org/x"), Err(ChannelError::Unencrypted));
        assert_eq!(read("http://127.0.0.1.example.org/x"), Err(ChannelError::Unencrypted));
        assert_eq!(read(""), Err(ChannelError::Empty));
        assert!(matches!(read("https://"), Err(ChannelError::NoUrl(_))));
    }
}
