//! The tables of the feature store as sea-orm entities. What their columns mean says the migration.

pub(super) mod definition;
pub(super) mod feature_use;
pub(super) mod materialization;
