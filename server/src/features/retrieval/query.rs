//! The command of a retrieval, parsed.

use mlplat_proto::features::v1 as pb;
use uuid::Uuid;

use crate::{
    error::Result,
    features::instant::{self, Window},
    request::{self, Violations, project_name},
};

const MAX_NAME: usize = 250;
const MAX_SQL: usize = 100_000;
const MAX_FEATURES: usize = 10_000;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) project: String,
    pub(super) features: Vec<String>,
    pub(super) rows: EntityRows,
    /// Column with the time of each entity row; empty only with a window.
    pub(super) timestamp: String,
    pub(super) known_at_entity: bool,
    pub(super) full_names: bool,
    pub(super) aliases: Vec<pb::ViewAlias>,
    pub(super) snapshots: Vec<pb::SourceSnapshot>,
    pub(super) run_id: Option<Uuid>,
    pub(super) name: Option<String>,
}

/// Where the entity rows come from.
#[derive(Debug, PartialEq)]
pub(super) enum EntityRows {
    /// From the client.
    Table,
    /// There are none: the rows of the view itself.
    Window(Window),
    /// From a query.
    Sql(String),
}

impl Query {
    /// Parses the command.
    pub(super) fn parse(message: pb::HistoricalFeaturesQuery) -> Result<Self> {
        let mut violations = Violations::new();
        let rows = entity_rows(&message, &mut violations);
        if message.features.len() > MAX_FEATURES {
            violations.add(
                "features",
                format!("must name at most {MAX_FEATURES} features"),
            );
        }
        let is_window = matches!(rows, EntityRows::Window(_));
        if message.timestamp_column.is_empty() && !is_window {
            violations.add(
                "timestamp_column",
                "must name the column of the entity rows with the time of each",
            );
        }
        let known_at_entity = match pb::KnownAt::try_from(message.known_at) {
            Ok(pb::KnownAt::Unspecified | pb::KnownAt::Event) => false,
            Ok(pb::KnownAt::Entity) => true,
            Err(_) => {
                violations.add("known_at", "is not known to this server");
                false
            }
        };
        if known_at_entity && is_window {
            violations.add(
                "known_at",
                "has no meaning with a window, which has no entity rows",
            );
        }
        let run_id = (!message.run_id.is_empty())
            .then(|| violations.parse("run_id", request::uuid(&message.run_id)))
            .flatten();
        let name = (!message.name.is_empty())
            .then(|| violations.parse("name", request::name(&message.name, MAX_NAME)))
            .flatten();
        violations.finish()?;
        Ok(Self {
            project: project_name(&message.project),
            features: message.features,
            rows,
            timestamp: message.timestamp_column,
            known_at_entity,
            full_names: message.full_names,
            aliases: message.aliases,
            snapshots: message.snapshots,
            run_id,
            name,
        })
    }
}

fn entity_rows(message: &pb::HistoricalFeaturesQuery, violations: &mut Violations) -> EntityRows {
    match (&message.window, message.entity_sql.as_str()) {
        (None, "") => EntityRows::Table,
        (None, sql) => {
            let sql = violations.parse("entity_sql", request::text(sql, MAX_SQL));
            EntityRows::Sql(sql.unwrap_or_default())
        }
        (Some(window), sql) => {
            if !sql.is_empty() {
                violations.add(
                    "entity_sql",
                    "is not possible together with a window; give one of them",
                );
            }
            if window.start.is_none() && window.end.is_none() {
                violations.add("window", "must have a start or an end");
            }
            EntityRows::Window(instant::window(window, violations))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use mlplat_proto::common::v1::TimeRange;

    use super::*;
    use crate::error::Error;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 1 })
    }

    #[test]
    fn rows_come_from_one_place() {
        let base = pb::HistoricalFeaturesQuery {
            features: vec!["v:f".to_owned()],
            timestamp_column: "t".to_owned(),
            ..Default::default()
        };
        assert_eq!(Query::parse(base.clone()).unwrap().rows, EntityRows::Table);
        let window = TimeRange {
            start: at(1),
            end: None,
        };
        let windowed = pb::HistoricalFeaturesQuery {
            window: Some(window),
            ..base.clone()
        };
        let parsed = Query::parse(windowed.clone()).unwrap().rows;
        let expected = (Bound::Included(1_000_000_001), Bound::Unbounded);
        assert_eq!(parsed, EntityRows::Window(expected));
        let both = pb::HistoricalFeaturesQuery {
            entity_sql: "SELECT 1".to_owned(),
            ..windowed
        };
        assert!(Query::parse(both).is_err());
    }

    #[test]
    fn all_bad_fields_at_once() {
        let bad = pb::HistoricalFeaturesQuery {
            run_id: "x".to_owned(),
            name: " ".to_owned(),
            ..Default::default()
        };
        let Err(Error::Invalid(found)) = Query::parse(bad) else {
            panic!("must be invalid");
        };
        let fields: Vec<_> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["timestamp_column", "run_id", "name"]);
    }
}
