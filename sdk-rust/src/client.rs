//! The handle to a server: its settings and its connection.
//!
//! Invariant: a [`Client`] is its settings plus a channel that is made at the first call, so it can be rebuilt from
//! [`Client::to_builder`] at any time (after a `fork`, for another runtime). Clients of one server and project share the
//! journal of what is logged (`journal`), and nothing else. How calls are made is `call.rs`.

use std::{
    env,
    fmt::Display,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use url::Url;

use crate::{
    admin::Admin,
    artifacts::Artifacts,
    catalogue::Catalogue,
    error::{Error, Result},
    features::Features,
    journal,
    lineage::Lineage,
    retry::RetryPolicy,
    tracking::{ActiveRun, NewRun, Run, Tracking},
};

/// Where a server listens that was started without configuration.
pub const DEFAULT_URL: &str = "http://127.0.0.1:5000";
/// The project that always exists.
pub const DEFAULT_PROJECT: &str = "default";
/// Longest deadline; what is longer does not fit into a header, and nobody waits for it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Settings of a [`Client`]; every one has a default.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    project: String,
    user_agent: String,
    connect_timeout: Duration,
    timeout: Duration,
    stream_timeout: Duration,
    retry: RetryPolicy,
    journal_home: Option<PathBuf>,
    /// Whether calls first deliver what was logged before.
    journal: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            url: DEFAULT_URL.to_owned(),
            project: DEFAULT_PROJECT.to_owned(),
            user_agent: concat!("mlplat-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(3600),
            retry: RetryPolicy::default(),
            journal_home: None,
            journal: true,
        }
    }
}

impl ClientBuilder {
    /// Address of the server, `http://host:port` or `https://host:port`; default [`DEFAULT_URL`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Project that the calls work in; default [`DEFAULT_PROJECT`].
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// What comes first in the `user-agent` header; default `mlplat-rust/<version>`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Longest time to make a connection; default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(LONGEST);
        self
    }

    /// Deadline of a call with one answer, all its retries included; default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// Deadline of a call that streams (files, tables, materialization); default 1 h.
    pub fn stream_timeout(mut self, timeout: Duration) -> Self {
        self.stream_timeout = timeout.min(LONGEST);
        self
    }

    /// When and how often safe calls are tried again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Where the journal of what is logged is kept; default `MLPLAT_HOME`, else `~/.mlplat`.
    pub fn journal_home(mut self, folder: impl Into<PathBuf>) -> Self {
        self.journal_home = Some(folder.into());
        self
    }

    /// For the delivery of the journal itself: no waiting for it, and each call is tried once.
    pub(crate) fn without_journal(mut self) -> Self {
        self.journal = false;
        self.retry = RetryPolicy::none();
        self
    }

    pub(crate) fn given_url(&self) -> &str {
        &self.url
    }

    pub(crate) fn given_project(&self) -> &str {
        &self.project
    }

    /// Takes address and project from `MLPLAT_URL` and `MLPLAT_PROJECT`, where these are set and not empty.
    pub fn from_env(mut self) -> Self {
        let given = |name| {
            env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        if let Some(url) = given("MLPLAT_URL") {
            self.url = url;
        }
        if let Some(project) = given("MLPLAT_PROJECT") {
            self.project = project;
        }
        self
    }

    /// Makes the client. Needs no running server and no async runtime: the connection is made at the first call.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an address that is none, an empty project, or TLS without usable root certificates.
    pub fn build(self) -> Result<Client> {
        let url = server_url(&self.url)?;
        if self.project.is_empty() {
            return Err(Error::misuse(
                "the project name is empty; leave it out to use `default`",
            ));
        }
        let mut endpoint = Endpoint::from_shared(url.clone())
            .and_then(|endpoint| endpoint.user_agent(self.user_agent.clone()))
            .map_err(|e| {
                Error::misuse(format!(
                    "`{url}` with user agent `{}`: {}",
                    self.user_agent,
                    causes(&e)
                ))
            })?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(256 << 10);
        if url.starts_with("https:") {
            let tls = ClientTlsConfig::new().with_native_roots();
            let with_tls = endpoint.tls_config(tls);
            endpoint = with_tls.map_err(|e| {
                Error::misuse(format!("cannot set up TLS for {url}: {}", causes(&e)))
            })?;
        }
        let inner = Inner {
            settings: Self { url, ..self },
            endpoint,
            channel: OnceLock::new(),
            answered: Arc::default(),
        };
        Ok(Client {
            inner: Arc::new(inner),
        })
    }
}

/// A handle to one server and project. Cheap to clone, safe to share between tasks and threads of one runtime.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientBuilder,
    endpoint: Endpoint,
    /// Made at the first call, for making it needs a runtime.
    channel: OnceLock<Channel>,
    /// The server has answered a call.
    answered: Arc<AtomicBool>,
}

impl Client {
    /// Settings to begin with.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client for the server at `url` and the default project; needs no running server.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an address that is none.
    pub fn connect(url: impl Into<String>) -> Result<Self> {
        Self::builder().url(url).build()
    }

    /// A client as `MLPLAT_URL` and `MLPLAT_PROJECT` say, with their defaults where they are not set.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an address that is none.
    pub fn from_env() -> Result<Self> {
        Self::builder().from_env().build()
    }

    /// The settings of this client, to make another one like it: after a `fork`, or for another runtime.
    pub fn to_builder(&self) -> ClientBuilder {
        self.inner.settings.clone()
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.inner.settings.url
    }

    /// Project that the calls work in.
    pub fn project(&self) -> &str {
        &self.inner.settings.project
    }

    /// The same server, another project; shares the connection.
    #[must_use]
    pub fn with_project(&self, project: impl Into<String>) -> Self {
        let settings = ClientBuilder {
            project: project.into(),
            ..self.to_builder()
        };
        let inner = Inner {
            settings,
            endpoint: self.inner.endpoint.clone(),
            channel: self.inner.channel.clone(),
            answered: Arc::clone(&self.inner.answered),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Experiments, runs, params and metrics.
    pub fn tracking(&self) -> Tracking {
        Tracking::new(self.clone())
    }

    /// The files of runs.
    pub fn artifacts(&self) -> Artifacts {
        Artifacts::new(self.clone())
    }

    /// Feature definitions, historical and online retrieval.
    pub fn features(&self) -> Features {
        Features::new(self.clone())
    }

    /// Registered models and their versions.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::new(self.clone())
    }

    /// The lineage graph and its events.
    pub fn lineage(&self) -> Lineage {
        Lineage::new(self.clone())
    }

    /// The server itself and its projects.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Starts a run; short for [`Tracking::start_run`].
    ///
    /// # Errors
    /// As [`Tracking::start_run`].
    pub async fn start_run(&self, new: NewRun) -> Result<ActiveRun> {
        self.tracking().start_run(new).await
    }

    /// One run by its id; short for [`Tracking::get_run`].
    ///
    /// # Errors
    /// As [`Tracking::get_run`].
    pub async fn get_run(&self, run_id: &str) -> Result<Run> {
        self.tracking().get_run(run_id).await
    }

    /// The channel; must be called within a runtime.
    pub(crate) fn channel(&self) -> Channel {
        self.inner
            .channel
            .get_or_init(|| self.inner.endpoint.connect_lazy())
            .clone()
    }

    /// The server has answered a call of this client, or was heard of otherwise.
    pub(crate) fn note_answer(&self) {
        self.inner.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the server was ever there.
    pub(crate) fn has_answered(&self) -> bool {
        self.inner.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.settings.timeout
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.inner.settings.retry
    }

    /// Where the journal is kept; none where there is no place.
    pub(crate) fn journal_home(&self) -> Option<PathBuf> {
        let given = self.inner.settings.journal_home.clone();
        given.or_else(journal::default_home)
    }

    /// Whether calls first deliver what was logged before.
    pub(crate) fn delivers_before(&self) -> bool {
        self.inner.settings.journal
    }

    pub(crate) fn stream_timeout(&self) -> Duration {
        self.inner.settings.stream_timeout
    }
}

/// All causes of an error in one line; tonic's own text is only "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let chain: Vec<String> = std::iter::successors(Some(error), |&e| e.source())
        .map(ToString::to_string)
        .collect();
    chain.join(": ")
}

/// Normal form of the server's address: scheme, host and port.
fn server_url(text: &str) -> Result<String> {
    let wrong = |why: &dyn Display| {
        Error::misuse(format!(
            "`{text}` is not the address of a server ({why}); it looks like {DEFAULT_URL}"
        ))
    };
    let text_with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&text_with_scheme).map_err(|e| wrong(&e))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&"only http:// and https:// are supported"));
    }
    let Some(host) = url.host_str() else {
        return Err(wrong(&"there is no host"));
    };
    if url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
    {
        return Err(wrong(&"only scheme, host and port belong in it"));
    }
    Ok(match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalized() {
        assert_eq!(
            server_url("localhost:5000").unwrap(),
            "http://localhost:5000"
        );
        assert_eq!(
            server_url("http://127.0.0.1:5000/").unwrap(),
            "http://127.0.0.1:5000"
        );
        assert_eq!(
            server_url("https://ml.example.org").unwrap(),
            "https://ml.example.org"
        );
        assert_eq!(server_url("http://[::1]:7").unwrap(), "http://[::1]:7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "ftp://x",
            "http://",
            "http://x/path",
            "http://user@x",
            "http://x?q=1",
            "http://x:99999",
        ] {
            assert!(matches!(server_url(bad), Err(Error::Misuse(_))), "{bad}");
        }
        assert!(Client::builder().project("").build().is_err());
        assert!(Client::builder().user_agent("line\nbreak").build().is_err());
    }

    #[test]
    fn a_client_is_made_without_runtime_or_server() {
        let client = Client::builder()
            .url("localhost:1")
            .project("p")
            .build()
            .unwrap();
        assert_eq!(
            (client.url(), client.project()),
            ("http://localhost:1", "p")
        );
        let again = client.to_builder().build().unwrap();
        assert_eq!(again.project(), "p");
        assert_eq!(client.with_project("q").project(), "q");
    }

    #[tokio::test]
    async fn no_timeout_is_too_long() {
        let client = Client::builder()
            .url("http://127.0.0.1:1")
            .connect_timeout(Duration::MAX)
            .timeout(Duration::MAX)
            .stream_timeout(Duration::MAX)
            .retry(RetryPolicy::default().max_attempts(1))
            .build()
            .unwrap();
        let error = client.admin().server_info().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_clear_error() {
        let policy = RetryPolicy::default()
            .max_attempts(2)
            .backoff(Duration::from_millis(1), Duration::from_millis(1));
        // Port 1 of loopback is as good as never taken.
        let client = Client::builder()
            .url("http://127.0.0.1:1")
            .retry(policy)
            .build()
            .unwrap();
        let error = client.admin().server_info().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("connection refused; is it running?"),
            "{error}"
        );
    }
}
