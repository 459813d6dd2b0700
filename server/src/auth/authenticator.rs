//! How a request comes to its caller.

use std::fmt;

use http::HeaderMap;

use super::Caller;
use crate::error::Result;

/// Recognizes callers by the headers of their requests.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// The caller; `None` when the request says nothing of who it is, an error when what it says is wrong.
    fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>>;
}

/// `auth.mode = "none"`: everybody is the owner of this machine's server.
#[derive(Debug, Clone, Copy)]
pub struct LocalOwner;

impl Authenticator for LocalOwner {
    fn caller(&self, _headers: &HeaderMap) -> Result<Option<Caller>> {
        Ok(Some(Caller::local_owner()))
    }
}
