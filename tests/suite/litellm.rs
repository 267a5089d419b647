//! The LiteLLM proxy in front of another server, as installed by `scripts/servers.sh`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The proxy, from [`Proxy::start`] until it is dropped.
pub(crate) struct Proxy {
    child: Child,
    port: u16,
    _config: tempfile::TempDir,
}

impl Proxy {
    /// Starts it on a free port of 127.0.0.1, with the server at `base_url` behind it as model `small`.
    ///
    /// # Panics
    /// Where it is not installed or does not come up.
    pub(crate) fn start(base_url: &str) -> Self {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/litellm/bin");
        assert!(venv.join("litellm").exists(), "LiteLLM is not installed: run scripts/servers.sh");
        let config = tempfile::tempdir().unwrap();
        let models = format!(
            "model_list:\n  - model_name: small\n    litellm_params:\n      model: openai/small\n      \
             api_base: {base_url}\n      api_key: none\n"
        );
        std::fs::write(config.path().join("config.yaml"), models).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(venv.join("litellm"))
            .args(["--config", "config.yaml", "--host", "127.0.0.1", "--port", &port.to_string()])
            .current_dir(config.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", venv.display()))
            .env("HOME", config.path())
            // It refuses to start without a key of its own, even on loopback.
            .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
            // It would fetch its table of prices.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut proxy = Self { child, port, _config: config };
        let until = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(proxy.child.try_wait().unwrap().is_none(), "LiteLLM has ended");
            assert!(Instant::now() < until, "LiteLLM does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        proxy
    }

    /// What `OPENAI_BASE_URL` is to be.
    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
