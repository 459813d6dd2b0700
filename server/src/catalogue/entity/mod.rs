//! The tables of the catalogue. What their columns mean says the migration.

pub(super) mod alias;
pub(super) mod feature_use;
pub(super) mod model;
pub(super) mod version;
