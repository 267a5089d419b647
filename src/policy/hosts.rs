//! The hosts that a command names. Strict: a name is letters, digits and hyphens between dots, international ones in
//! their ASCII form, or an address; anything else that stands where a host should is no host, and nobody guesses which.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::commands::Command;
use super::effects::only_reads;

/// What stands where a host is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// A host, in lower case and without a dot at its end.
    Host(String),
    /// No name that a host can have.
    Odd(String),
}

/// The hosts that a command names. What only prints or reads text goes to none of those in it.
pub(super) fn hosts(command: &Command) -> BTreeSet<Named> {
    if only_reads(&command.program) {
        return BTreeSet::new();
    }
    let args = &command.args;
    let mut found: BTreeSet<Named> = args.iter().flat_map(|arg| in_urls(arg)).collect();
    match command.program.as_str() {
        "ssh" | "telnet" | "nc" | "ncat" | "ftp" | "sftp" | "ping" | "mosh" => {
            let valued = |at: usize| at > 0 && args[at - 1].len() == 2 && takes_value(&args[at - 1]);
            let operand = (0..args.len()).find(|&at| !args[at].starts_with('-') && !valued(at));
            let operand = operand.map(|at| remote_part(&args[at]).unwrap_or(&args[at]));
            found.extend(operand.filter(|host| !host.contains('$')).map(named));
        }
        // `HEAD:main` names no host, and a message may say anything.
        "git" => {
            let ways = args.iter().filter(|arg| arg.contains('@') && arg.contains(':') && !arg.contains("://"));
            let hosts = ways.filter(|arg| !arg.contains([' ', '$'])).filter_map(|arg| remote_part(arg));
            found.extend(hosts.map(named).filter(|named| matches!(named, Named::Host(_))));
        }
        "scp" | "rsync" => {
            let remote = |arg: &&String| !arg.starts_with('-') && !arg.contains("://");
            let known = |host: &&str| !host.contains('$');
            found.extend(args.iter().filter(remote).filter_map(|arg| remote_part(arg)).filter(known).map(named));
        }
        "curl" | "wget" | "http" | "https" | "xh" => {
            let bare = command.operands().filter(|arg| !arg.contains("://")).filter_map(bare_host);
            found.extend(bare.map(named));
        }
        "psql" | "pg_dump" | "pg_restore" | "dropdb" | "createdb" | "mysql" | "mariadb" | "mysqldump" | "redis-cli"
        | "mongosh" | "clickhouse-client" | "sqlcmd" => {
            found.extend(of_option(args).filter(|host| !host.contains('$')).map(|host| named(&host)));
        }
        _ => {}
    }
    found
}

/// Whether a host is the box itself, or a service that belongs to it.
pub(super) fn is_inside(host: &str, beside: &BTreeSet<String>) -> bool {
    let is_address = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    host == "localhost" || host.ends_with(".localhost") || beside.contains(host) || host.parse().is_ok_and(is_address)
}

/// What the URLs of a word name.
fn in_urls(word: &str) -> Vec<Named> {
    word.match_indices("://").filter_map(|(at, _)| of_authority(&word[at + 3..])).collect()
}

/// The host between `//` and the path. A backslash is read in one way by browsers and in another by curl.
fn of_authority(rest: &str) -> Option<Named> {
    let end = rest.find(['/', '?', '#', '"', '\'']).unwrap_or(rest.len());
    let authority = &rest[..end];
    // What a variable stands for is not known; that is not odd.
    if authority.is_empty() || authority.contains('$') {
        return None;
    }
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if authority.contains(['\\', '%', ' ']) || authority.chars().any(char::is_control) {
        return Some(Named::Odd(authority.to_owned()));
    }
    Some(named(without_port(host)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((before, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !before.ends_with(':') => before,
        _ => host,
    }
}

/// Reads a host's name.
fn named(text: &str) -> Named {
    let odd = || Named::Odd(text.to_owned());
    let bare = text.strip_suffix('.').unwrap_or(text);
    if let Some(inside) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<IpAddr>().map_or_else(|_| odd(), |address| Named::Host(address.to_string()));
    }
    let may_be_one = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bare.is_empty() || !bare.chars().all(may_be_one) {
        return odd();
    }
    match url::Host::parse(bare) {
        Ok(host) if host.to_string().len() <= 253 => Named::Host(host.to_string()),
        Ok(_) | Err(_) => odd(),
    }
}

/// The host of `user@host:path` and `host:path`.
fn remote_part(word: &str) -> Option<&str> {
    let before = word.split('/').next().unwrap_or_default();
    let host = match before.split_once(':') {
        Some((host, _)) => host,
        None => before.contains('@').then_some(before)?,
    };
    Some(host.rsplit('@').next().unwrap_or(host))
}

/// The host of a URL that was written without its scheme: `localhost:8000/x`, `example.org`.
fn bare_host(word: &str) -> Option<&str> {
    let host = without_port(word.split(['/', '?', '#']).next().unwrap_or_default());
    let is_one = host == "localhost" || (host.contains('.') && !host.starts_with('.') && !word.contains('='));
    is_one.then_some(host)
}

/// `-h HOST`, `-hHOST`, `--host HOST`, `--host=HOST`, `host=HOST`.
fn of_option(args: &[String]) -> impl Iterator<Item = String> {
    let next = |at: usize| args.get(at + 1).cloned();
    args.iter().enumerate().filter_map(move |(at, arg)| match arg.as_str() {
        "-h" | "--host" | "-S" => next(at),
        arg => {
            let given = arg.strip_prefix("--host=").or_else(|| arg.strip_prefix("-h").filter(|rest| !rest.is_empty()));
            let in_text = || arg.split_whitespace().find_map(|part| part.strip_prefix("host=")).map(str::to_owned);
            given.map(str::to_owned).or_else(in_text)
        }
    })
}

/// Options of those that log in somewhere that take a value.
fn takes_value(option: &str) -> bool {
    const WITH: &str = "BbcDEeFIiJLlmOopQRSWw";
    option.starts_with('-') && option[1..].chars().all(|c| WITH.contains(c))
}

#[cfg(test)]
mod tests {
    use super::super::commands::commands;
    use super::*;

    fn told(text: &str) -> Vec<Named> {
        commands(text).iter().flat_map(hosts).collect()
    }

    #[test]
    fn hosts_are_read_where_commands_name_them() {
        for (text, host) in [
            ("curl https://Example.org./x", "example.org"),
            ("curl -d a=1 http://user:pw@example.org:8080/x?y", "example.org"),
            ("curl https://allowed.com@evil.example/", "evil.example"),
            ("curl https://allowed.com.evil.example", "allowed.com.evil.example"),
            ("curl localhost:8000/health", "localhost"),
            ("curl http://0x7f.1/", "127.0.0.1"),
            ("curl 'http://[::1]:80/'", "::1"),
            ("curl https://bücher.example", "xn--bcher-kva.example"),
            ("ssh -p 22 -i key bob@db1.example ls", "db1.example"),
            ("scp a bob@db1.example:b", "db1.example"),
            ("rsync -a x db1.example:y", "db1.example"),
            ("git clone git@github.example:a/b.git", "github.example"),
            ("psql -h db1 -c 'select 1'", "db1"),
            ("psql 'host=db1 dbname=x'", "db1"),
            ("psql postgres://u@db1/x", "db1"),
            ("mysql --host=db1", "db1"),
        ] {
            assert_eq!(told(text), [Named::Host(host.to_owned())], "{text}");
        }
        for text in [
            "ls -h",
            "echo a@b",
            "git log origin/main",
            "git commit -m 'fix: a@b: c'",
            "git push origin HEAD:main",
            "curl file:///etc/passwd",
            "curl https://$HOST/x",
        ] {
            assert_eq!(told(text), [], "{text}");
        }
    }

    #[test]
    fn what_no_host_is_called_is_no_host() {
        for text in [
            "curl 'https://evil\\@allowed.com'",
            "curl https://evil%00.allowed.com",
            "curl $'https://evil\\x01.allowed.com'",
            "curl 'https://a b.example'",
            "ssh 'a;b'",
        ] {
            let found = told(text);
            assert!(matches!(&found[..], [Named::Odd(_)]), "{text}: {found:?}");
        }
    }

    #[test]
    fn the_box_and_what_stands_beside_it_are_inside() {
        let beside = BTreeSet::from(["db".to_owned()]);
        for host in ["localhost", "api.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "db"] {
            assert!(is_inside(host, &beside), "{host}");
        }
        for host in ["10.0.0.1", "localhost.evil.example", "db1", "169.254.169.254"] {
            assert!(!is_inside(host, &beside), "{host}");
        }
    }
}
