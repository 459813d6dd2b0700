//! Paged lists as one stream: the next page is fetched when the one before is used up.
//!
//! Invariant: a page token is used once, with the request it came from. This module does not know what is listed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};

use crate::error::{Error, Result};

/// The items of a list, over all of its pages, in order. A `Stream` of `Result<T>`; after an error it ends.
#[must_use = "nothing is asked for before it is polled"]
pub struct Paged<T> {
    items: BoxStream<'static, Result<T>>,
}

impl<T: Send + 'static> Paged<T> {
    /// `fetch` gives the page for a token (empty: the first) and the token of the next one (empty: there is none).
    pub(crate) fn new<F, Fut>(fetch: F) -> Self
    where
        F: Fn(String) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(Vec<T>, String)>> + Send + 'static,
    {
        let pages = stream::try_unfold((Some(String::new()), fetch), |(token, fetch)| async move {
            let Some(token) = token else {
                return Ok::<_, Error>(None);
            };
            let (items, next) = fetch(token).await?;
            let next = (!next.is_empty()).then_some(next);
            Ok(Some((stream::iter(items).map(Ok), (next, fetch))))
        });
        Self {
            items: pages.try_flatten().boxed(),
        }
    }

    /// The next item; none at the end.
    ///
    /// # Errors
    /// As the call that fetches the page.
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.items.try_next().await
    }

    /// All items, at most `limit` of them where one is given.
    ///
    /// # Errors
    /// As the call that fetches the pages.
    pub async fn collect(self, limit: Option<usize>) -> Result<Vec<T>> {
        match limit {
            Some(limit) => self.items.take(limit).try_collect().await,
            None => self.items.try_collect().await,
        }
    }
}

impl<T> Stream for Paged<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_next_unpin(cx)
    }
}

impl<T> std::fmt::Debug for Paged<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Paged(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_pages() -> Paged<u32> {
        Paged::new(|token| async move {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "a".to_owned()),
                "a" => (vec![], "b".to_owned()),
                _ => (vec![3], String::new()),
            })
        })
    }

    #[tokio::test]
    async fn pages_become_one_list() {
        assert_eq!(three_pages().collect(None).await.unwrap(), [1, 2, 3]);
        assert_eq!(three_pages().collect(Some(2)).await.unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn an_error_ends_the_list() {
        let mut paged: Paged<u32> = Paged::new(|_| async { Err(Error::misuse("no")) });
        assert!(paged.next().await.is_err());
        assert!(paged.next().await.unwrap().is_none());
    }
}
