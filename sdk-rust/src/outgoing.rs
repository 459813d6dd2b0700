//! A stream of messages to the server whose source can fail.
//!
//! Invariant: a source that failed never looks like one that ended. A gRPC request stream can only end well, so on failure
//! it stalls, the error goes to the caller by the side, and the caller drops the call, which resets it on the wire.

use std::future::{Future, pending};

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;

use crate::{call::CallError, error::Error};

/// Where the error of the source arrives; none once the source ended well.
pub(crate) struct SourceError(Option<oneshot::Receiver<Error>>);

impl SourceError {
    /// The error, if there is ever one.
    async fn arrived(&mut self) -> Error {
        let Some(receiver) = &mut self.0 else {
            return pending().await;
        };
        let outcome = receiver.await;
        // It has answered, and must not be asked again.
        self.0 = None;
        match outcome {
            Ok(error) => error,
            Err(_) => pending().await,
        }
    }

    /// The outcome of `call`, or the error of the source, whichever is first.
    pub(crate) async fn or<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            error = self.arrived() => Err(CallError::Final(error)),
            outcome = call => outcome,
        }
    }
}

/// The messages of `source` for a gRPC call, and its error by the side.
pub(crate) fn outgoing<T, S>(source: S) -> (impl Stream<Item = T> + Send + 'static, SourceError)
where
    T: Send + 'static,
    S: Stream<Item = Result<T, Error>> + Send + 'static,
{
    let (failed, failure) = oneshot::channel();
    let messages = stream::unfold(
        (source.boxed(), Some(failed)),
        |(mut source, mut failed)| async move {
            match source.next().await? {
                Ok(message) => Some((message, (source, failed))),
                Err(error) => {
                    if let Some(failed) = failed.take() {
                        // Nobody listens only when the call is over already.
                        let _ = failed.send(error);
                    }
                    pending().await
                }
            }
        },
    );
    (messages, SourceError(Some(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_fails_ends_the_call_with_its_error() {
        let source = stream::iter([Ok(1), Err(Error::misuse("disk on fire"))]);
        let (messages, mut failure) = outgoing(source);
        let outcome = failure
            .or(async { Ok(messages.collect::<Vec<i32>>().await) })
            .await;
        assert!(matches!(outcome, Err(CallError::Final(e)) if e.to_string() == "disk on fire"));
    }

    #[tokio::test]
    async fn a_source_that_ended_can_be_asked_again() {
        let (messages, mut failure) = outgoing(stream::iter([Ok(1)]));
        assert_eq!(messages.collect::<Vec<i32>>().await, [1]);
        for turn in 0..3 {
            let slow = async {
                tokio::task::yield_now().await;
                Ok(turn)
            };
            assert_eq!(failure.or(slow).await.unwrap(), turn);
        }
    }

    #[tokio::test]
    async fn a_source_that_ends_leaves_the_outcome_to_the_call() {
        let (messages, mut failure) = outgoing(stream::iter([Ok(1), Ok(2)]));
        let outcome = failure
            .or(async { Ok(messages.collect::<Vec<i32>>().await) })
            .await;
        assert_eq!(outcome.unwrap(), [1, 2]);
    }
}
