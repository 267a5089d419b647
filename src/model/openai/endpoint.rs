//! Where requests go and with what credentials: checked once, before anything is sent.

use async_openai::config::Config;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::Url;
use secrecy::SecretString;

use crate::model::{ModelError, ModelErrorKind};

/// A server and the credentials for it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    base: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    key: SecretString,
    /// Whether the server is on this machine.
    pub(super) is_loopback: bool,
    /// Whether the server is known to take `strict` schemas.
    pub(super) takes_strict: bool,
    /// Whether the server is OpenAI's own, or Azure's.
    pub(super) is_openai: bool,
}

impl Endpoint {
    /// Takes a base URL and the key where there is one. Neither may carry the other.
    ///
    /// # Errors
    /// [`ModelErrorKind::Setup`].
    pub(super) fn new(base_url: &str, key: Option<&str>) -> Result<Self, ModelError> {
        let mut url = Url::parse(base_url.trim()).map_err(|error| bad_url(base_url, &error.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
            return Err(bad_url(base_url, "it does not begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad_url(base_url, "it holds a user name or password; the key belongs into OPENAI_API_KEY"));
        }
        let is_loopback = is_loopback(&host);
        let key = key.map(str::trim).filter(|key| !key.is_empty());
        if key.is_some() && url.scheme() == "http" && !is_loopback {
            return Err(key_in_clear(&host));
        }
        let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        url.set_query(None);
        url.set_fragment(None);
        let base = url.as_str().trim_end_matches('/');
        let path = ["/chat/completions", "/responses"].into_iter().find_map(|path| base.strip_suffix(path));
        let base = path.unwrap_or(base).to_owned();
        let is_openai = host == "api.openai.com" || host.ends_with(".openai.azure.com");
        let key_or_empty = SecretString::from(key.unwrap_or_default());
        let takes_strict = is_openai;
        Ok(Self { base, query, headers: headers(key)?, key: key_or_empty, is_loopback, takes_strict, is_openai })
    }

    /// The base URL without credentials and query.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// A URL without what may be secret in it: user, password, query, fragment.
pub(in crate::model) fn shown(url: &str) -> String {
    let Some(mut url) = Url::parse(url.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return url.split(['?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default().to_owned();
    };
    // Both fail only for URLs that cannot hold a user name.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn headers(key: Option<&str>) -> Result<HeaderMap, ModelError> {
    let mut headers = HeaderMap::new();
    let Some(key) = key else { return Ok(headers) };
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::from_str(&format!("Bearer {key}")).ok().filter(|_| is_plain);
    let mut value = value.ok_or_else(|| ModelError {
        because: Some("it holds blanks, control characters or letters beyond ASCII".to_owned()),
        hint: Some("copy it again, without quotes and line ends".to_owned()),
        ..ModelError::new(ModelErrorKind::Setup, "the key in OPENAI_API_KEY can't be sent")
    })?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bad_url(url: &str, why: &str) -> ModelError {
    ModelError {
        because: Some(why.to_owned()),
        hint: Some("set OPENAI_BASE_URL to something like http://127.0.0.1:11434/v1".to_owned()),
        ..ModelError::new(ModelErrorKind::Setup, format!("`{}` is no base URL of a model's server", shown(url)))
    }
}

fn key_in_clear(host: &str) -> ModelError {
    ModelError {
        because: Some("the base URL begins with http:// and does not lead to this machine".to_owned()),
        hint: Some(
            [
                "use https://",
                "unset OPENAI_API_KEY if the server needs none",
                "or tunnel it: `ssh -L 8000:HOST:PORT …`",
            ]
            .join("\n"),
        ),
        ..ModelError::new(ModelErrorKind::Setup, format!("will not send the key to {host} in clear"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_https_or_to_this_machine_only() {
        for good in
            ["https://api.openai.com/v1", "http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:1/v1"]
        {
            assert!(Endpoint::new(good, Some("k")).is_ok(), "{good}");
        }
        for bad in ["http://example.com/v1", "http://10.0.0.2:8000/v1", "http://localhost.example.com"] {
            let error = Endpoint::new(bad, Some("sk-secret")).unwrap_err();
            assert_eq!(error.kind, ModelErrorKind::Setup, "{bad}");
            assert!(Endpoint::new(bad, None).is_ok(), "{bad} without a key");
        }
    }

    #[test]
    fn a_base_url_is_cleaned_and_nonsense_refused() {
        let endpoint = Endpoint::new(" https://h/v1//?api-version=1#x ", None).unwrap();
        assert_eq!(endpoint.url("/chat/completions"), "https://h/v1/chat/completions");
        assert_eq!(endpoint.query(), [("api-version", "1")]);
        assert_eq!(Endpoint::new("https://h/v1/chat/completions", None).unwrap().base(), "https://h/v1");
        for bad in ["", "127.0.0.1:1/v1", "h/v1", "ftp://h", "https://u:p@h/v1"] {
            let error = Endpoint::new(bad, None).unwrap_err();
            assert_eq!(error.kind, ModelErrorKind::Setup, "{bad}");
            assert!(!format!("{error:?}").contains("u:p"), "{error:?}");
        }
    }

    #[test]
    fn a_key_is_trimmed_and_never_shown() {
        let endpoint = Endpoint::new("https://h/v1", Some(" sk-secret\n")).unwrap();
        assert_eq!(endpoint.headers()[AUTHORIZATION], "Bearer sk-secret");
        assert!(!format!("{endpoint:?}").contains("secret"));
        let error = Endpoint::new("https://h/v1", Some("sk-sécret x")).unwrap_err();
        assert!(!format!("{error:?}").contains("cret x"));
        assert!(Endpoint::new("https://h/v1", Some(" ")).unwrap().headers().is_empty());
    }

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        assert_eq!(shown("https://user:pass@h/v1/?key=x#y"), "https://h/v1");
        assert_eq!(shown("user:pass@h/v1?key=x"), "h/v1");
    }
}
