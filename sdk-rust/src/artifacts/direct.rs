//! Bytes that go between this machine and the object store, past the server, by URLs that the server has signed.
//!
//! Invariant: nothing that is read here is believed: digests are compared by who asked for it.

use std::time::Duration;

use bytes::Bytes;
use mlplat_proto::tracking::v1::SignedUrl;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::RANGE};

use crate::error::{Detail, Error, Result};

const TRIES: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transfer that moves nothing for so long is broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of the object store.
#[derive(Debug, Clone)]
pub(super) struct Direct(Client);

impl Direct {
    pub(super) fn new() -> Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        client.map(Self).map_err(|e| unreachable_store(&e))
    }

    /// Sends a part.
    pub(super) async fn put(&self, to: &SignedUrl, part: Bytes) -> Result<()> {
        let send = || with_headers(self.0.put(&to.url), to).body(part.clone());
        self.repeated(send).await.map(|_| ())
    }

    /// Reads exactly these bytes.
    pub(super) async fn get(&self, from: &SignedUrl, start: u64, length: u64) -> Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let range = format!("bytes={start}-{}", start + length - 1);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let send = || with_headers(self.0.get(&from.url), from).header(RANGE, &range);
            let response = self.repeated(send).await?;
            if response.status() != StatusCode::PARTIAL_CONTENT
                || response.content_length().is_some_and(|l| l != length)
            {
                return Err(refused(&format!(
                    "the object store did not answer with the {length} bytes asked for"
                )));
            }
            match response.bytes().await {
                Ok(bytes) if bytes.len() as u64 == length => return Ok(bytes),
                Ok(_) if attempt >= TRIES => return Err(refused("the object store broke off")),
                Err(error) if attempt >= TRIES => return Err(unreachable_store(&error)),
                _ => tokio::time::sleep(pause(attempt)).await,
            }
        }
    }

    async fn repeated(&self, send: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match send().send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let later = status.is_server_error()
                        || status == StatusCode::TOO_MANY_REQUESTS
                        || status == StatusCode::REQUEST_TIMEOUT;
                    if !later || attempt >= TRIES {
                        return Err(refused(&format!("the object store answered {status}")));
                    }
                }
                // Where there is nobody, trying again does not help.
                Err(error) if error.is_connect() || attempt >= TRIES => {
                    return Err(unreachable_store(&error));
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause(attempt)).await;
        }
    }
}

fn with_headers(mut request: RequestBuilder, signed: &SignedUrl) -> RequestBuilder {
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    request
}

fn pause(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.min(5)).mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

fn refused(message: &str) -> Error {
    Error::Unavailable(Box::new(Detail {
        message: message.to_owned(),
        reason: "OBJECT_STORE_REFUSES".to_owned(),
        ..Detail::default()
    }))
}

fn unreachable_store(error: &reqwest::Error) -> Error {
    // Not the URL, for whoever has it may use it.
    let mut text = "the object store cannot be reached".to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    refused(&text)
}
