//! Who calls, and what they may do.
//!
//! Invariant: a [`Scope`] comes from an authorization only, and every query takes one; a missing [`Caller`] is an error, never
//! a default. How a caller is known (local owner, later tokens) is the business of an [`Authenticator`].

mod authenticator;
mod caller;
pub mod entity;
mod rbac;
mod scope;

pub use authenticator::{Authenticator, LocalOwner};
pub use caller::Caller;
pub use rbac::{Action, Role};
pub use scope::Scope;
