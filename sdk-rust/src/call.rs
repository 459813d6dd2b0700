//! The one way every call goes: headers, deadline, retries, error decoding.
//!
//! Invariant: every call has a deadline over all of its tries, and the same request id in each of them. What was logged
//! before a call is delivered before it. This module does not know what the services do.

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::Channel};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    client::Client,
    error::{Error, Result},
    journal,
    retry::Safety,
    trace,
};

/// Largest message that this client sends or takes, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

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

impl Client {
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
            return self.timed_out(self.stream_timeout());
        }
        Error::from_status(status, self.url(), request_id)
    }

    /// Who refuses is there.
    fn note_status(&self, status: &Status) {
        use Code::{Cancelled, DeadlineExceeded, Unavailable, Unknown};
        if !matches!(
            status.code(),
            Unavailable | DeadlineExceeded | Cancelled | Unknown
        ) {
            self.note_answer();
        }
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
        M: Clone + prost::Message,
        F: Fn(Channel, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let span = tracing::info_span!("mlplat.call", otel.name = method, otel.kind = "client");
        // The transport would break off in the middle, which looks as if the server were not there.
        let bytes = message.encoded_len();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(Error::too_large(
                format_args!("the request of {method}"),
                bytes,
                MAX_MESSAGE_BYTES,
            ));
        }
        let mut timeout = self.timeout();
        if self.delivers_before() {
            let began = Instant::now();
            journal::deliver_before(self, timeout / 2).await;
            timeout = timeout.saturating_sub(began.elapsed());
        }
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
        if self.delivers_before() {
            journal::deliver_before(self, self.timeout()).await;
        }
        let attempts = async {
            let (request_id, policy) = (new_request_id(), self.retry());
            let mut attempt = 1;
            loop {
                let remaining = deadline.saturating_duration_since(Instant::now());
                let status = match call(request_id.clone(), remaining).await {
                    Ok(answer) => {
                        self.note_answer();
                        return Ok(answer);
                    }
                    Err(CallError::Final(error)) => return Err(error),
                    Err(CallError::Status(status)) => status,
                };
                self.note_status(&status);
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
        let policy = self.retry();
        let mut attempt = 1;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let request = self.request(message.clone(), remaining, &request_id);
            let status = match send(self.channel(), request).await {
                Ok(response) => {
                    self.note_answer();
                    return Ok(response.into_inner());
                }
                Err(status) => status,
            };
            self.note_status(&status);
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
