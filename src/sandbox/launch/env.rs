//! What of the caller's environment may enter a box that shows the machine's own tools.

use std::collections::BTreeMap;

/// Names that tools need to find themselves, their caches and the way out; none of them holds a secret by custom.
const NAMES: [&str; 44] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "COLORTERM",
    "EDITOR",
    "VISUAL",
    "MANPATH",
    "LD_LIBRARY_PATH",
    "PKG_CONFIG_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_EXE",
    "PYENV_ROOT",
    "NVM_DIR",
    "JAVA_HOME",
    "GOPATH",
    "GOROOT",
    "GOPROXY",
    "GOFLAGS",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_DATASETS_CACHE",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "PIP_INDEX_URL",
    "PIP_CACHE_DIR",
    "UV_CACHE_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
];

/// Beginnings of such names.
const FAMILIES: [&str; 5] = ["LC_", "CUDA_", "NVIDIA_", "ROCM_", "HIP_"];

/// Proxies, in either case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// The part of `whole` that enters; a search path and a home are always there.
pub(in crate::sandbox) fn entering(whole: &BTreeMap<String, String>, uid: u32) -> BTreeMap<String, String> {
    let may = |name: &str| {
        NAMES.contains(&name)
            || FAMILIES.iter().any(|family| name.starts_with(family))
            || PROXIES.contains(&name.to_ascii_lowercase().as_str())
    };
    let entering = whole.iter().filter(|(name, _)| may(name)).map(|(name, value)| (name.clone(), value.clone()));
    let mut env: BTreeMap<String, String> = entering.collect();
    let mut ensure = |name: &str, value: &str| {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    ensure("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    ensure("HOME", if uid == 0 { "/root" } else { "/" });
    ensure("LANG", "C.UTF-8");
    ensure("XDG_RUNTIME_DIR", &format!("/run/user/{uid}"));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_agents_stay_outside() {
        let pairs = [
            ("PATH", "/opt/bin"),
            ("OPENAI_API_KEY", "k"),
            ("SSH_AUTH_SOCK", "s"),
            ("AWS_SECRET_ACCESS_KEY", "k"),
            ("HTTPS_PROXY", "p"),
            ("LC_ALL", "C"),
            ("DBUS_SESSION_BUS_ADDRESS", "d"),
            ("HF_TOKEN", "t"),
        ];
        let whole = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let names: Vec<String> = entering(&whole, 1000).into_keys().collect();
        assert_eq!(names, ["HOME", "HTTPS_PROXY", "LANG", "LC_ALL", "PATH", "XDG_RUNTIME_DIR"]);
    }
}
