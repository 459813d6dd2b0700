//! What every request passes, gRPC and HTTP alike: trace, then authenticate; and on the way back, statuses get their reason.

pub mod authenticate;
pub mod status;
pub mod trace;
