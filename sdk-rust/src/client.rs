//! The connection to a server, and the one way every unary call goes: headers, deadline, retries, error decoding.
//!
//! Invariant: a [`Client`] is its settings plus a channel that is made at the first call, so it can be rebuilt from
//! [`Client::to_builder`] at any time (after a `fork`, for another runtime). There is no global state. This module does
//! not know what the services do.

use std::{
    env,
    fmt::Display,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tracing::Instrument as _;
use url::Url;
use uuid::Uuid;

use crate::{
    admin::Admin,
    artifacts::Artifacts,
    catalogue::Catalogue,
    error::{Error, Result},
    features::Features,
    lineage::Lineage,
    retry::{RetryPolicy, Safety},
    trace,
    tracking::{ActiveRun, NewRun, Run, Tracking},
};

/// Where a server listens that was started without configuration.
pub const DEFAULT_URL: &str = "http://127.0.0.1:5000";
/// The project that always exists.
pub const DEFAULT_PROJECT: &str = "default";
/// Largest message that this client sends or takes, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

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
        self.connect_timeout = timeout;
        self
    }

    /// Deadline of a call with one answer, all its retries included; default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Deadline of a call that streams (files, tables, materialization); default 1 h.
    pub fn stream_timeout(mut self, timeout: Duration) -> Self {
        self.stream_timeout = timeout;
        self
    }

    /// When and how often safe calls are tried again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
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
            .initial_connection_window_size(16 << 20);
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

    pub(crate) fn stream_timeout(&self) -> Duration {
        self.inner.settings.stream_timeout
    }

    /// A request with the headers that every call carries.
    pub(crate) fn request<M>(&self, message: M, timeout: Duration, request_id: &str) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        if let Ok(value) = MetadataValue::try_from(request_id) {
            request.metadata_mut().insert("x-request-id", value);
        }
        trace::inject(request.metadata_mut());
        request
    }

    pub(crate) fn decode(&self, status: &Status, request_id: &str) -> Error {
        if is_timeout(status) {
            return self.timed_out(self.inner.settings.stream_timeout);
        }
        Error::from_status(status, self.url(), request_id)
    }

    fn timed_out(&self, after: Duration) -> Error {
        Error::deadline(format!(
            "the mlplat server at {} did not answer within {after:?}; give the client a longer timeout if the call needs it",
            self.url()
        ))
    }

    /// Sends one message and takes one answer, again as the retry policy says, all within the deadline.
    pub(crate) async fn unary<M, R, F, Fut>(
        &self,
        safety: Safety,
        method: &'static str,
        message: M,
        send: F,
    ) -> Result<R>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let span = tracing::info_span!("mlplat.call", otel.name = method, otel.kind = "client");
        let timeout = self.inner.settings.timeout;
        let attempts = self.attempts(safety, timeout, message, send);
        async {
            match tokio::time::timeout(timeout, attempts).await {
                Ok(result) => result,
                Err(_) => Err(self.timed_out(timeout)),
            }
        }
        .instrument(span)
        .await
    }

    /// Does a call that streams as a whole, and again as the retry policy says. `call` gets the request id and the deadline.
    pub(crate) async fn streaming<R, F, Fut>(
        &self,
        safety: Safety,
        method: &'static str,
        call: F,
    ) -> Result<R>
    where
        F: Fn(String, Duration) -> Fut,
        Fut: Future<Output = Result<R, CallError>>,
    {
        let span = tracing::info_span!("mlplat.call", otel.name = method, otel.kind = "client");
        let deadline = Instant::now() + self.stream_timeout();
        let attempts = async {
            let (request_id, policy) = (new_request_id(), &self.inner.settings.retry);
            let mut attempt = 1;
            loop {
                let remaining = deadline.saturating_duration_since(Instant::now());
                let status = match call(request_id.clone(), remaining).await {
                    Ok(answer) => return Ok(answer),
                    Err(CallError::Final(error)) => return Err(error),
                    Err(CallError::Status(status)) => status,
                };
                let wait = policy.wait(attempt, rand::random());
                if !policy.again(attempt, safety, &status) || Instant::now() + wait >= deadline {
                    return Err(self.decode(&status, &request_id));
                }
                tokio::time::sleep(wait).await;
                attempt += 1;
            }
        };
        let result = tokio::time::timeout_at(deadline, attempts)
            .instrument(span)
            .await;
        result.unwrap_or_else(|_| Err(self.timed_out(self.stream_timeout())))
    }

    async fn attempts<M, R, F, Fut>(
        &self,
        safety: Safety,
        timeout: Duration,
        message: M,
        send: F,
    ) -> Result<R>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        let request_id = new_request_id();
        let policy = &self.inner.settings.retry;
        let mut attempt = 1;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let request = self.request(message.clone(), remaining, &request_id);
            let status = match send(self.channel(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let wait = policy.wait(attempt, rand::random());
            if is_timeout(&status) {
                return Err(self.timed_out(timeout));
            }
            if !policy.again(attempt, safety, &status) || Instant::now() + wait >= deadline {
                return Err(self.decode(&status, &request_id));
            }
            tracing::debug!(attempt, ?wait, code = ?status.code(), "the call failed and is tried again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }
}

/// Why one try of a streaming call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server or the transport failed; it may be worth another try.
    Status(Box<Status>),
    /// Trying again would not help.
    Final(Error),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// An id for one call, to find it in the server's log.
pub(crate) fn new_request_id() -> String {
    Uuid::now_v7().to_string()
}

/// The transport reports an expired deadline as CANCELLED; for the caller it is a deadline.
fn is_timeout(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message().contains("Timeout expired")
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

/// One unary call: `rpc!(self.client, Repeatable, tracking.get_run, message)`, where `tracking` makes the stub.
macro_rules! rpc {
    ($client:expr, $safety:ident, $stub:ident . $method:ident, $message:expr) => {
        $client
            .unary(
                $crate::retry::Safety::$safety,
                stringify!($method),
                $message,
                |channel, request| async move { $stub(channel).$method(request).await },
            )
            .await
    };
}
pub(crate) use rpc;

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
