//! The brute-force meaning of a point-in-time join: every entity row against every feature row.
//!
//! Written from the sentences of the feature semantics, one predicate per rule, to judge the engine by. It must not
//! know the engine, nor anything but the standard library, so that any test can include this file.

/// A feature row. Rows are listed in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct FeatureRow {
    /// One value per join key; `None` is null.
    pub(crate) keys: Vec<Option<String>>,
    /// Event timestamp in nanoseconds; `None` is null.
    pub(crate) event: Option<i128>,
    /// Created timestamp in nanoseconds; `None` is null, or not recorded.
    pub(crate) created: Option<i128>,
}

/// An entity row.
#[derive(Debug, Clone)]
pub(crate) struct EntityRow {
    /// One value per join key; `None` is null.
    pub(crate) keys: Vec<Option<String>>,
    /// The instant, in nanoseconds; `None` is null.
    pub(crate) time: Option<i128>,
}

/// How one view is joined.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Time to live in nanoseconds.
    pub(crate) ttl: Option<i128>,
    /// `known_at="entity"`.
    pub(crate) known_at_entity: bool,
    /// The view has no event timestamp: its rows have always been valid.
    pub(crate) is_static: bool,
    /// The view records when its rows were written.
    pub(crate) has_created: bool,
}

/// For every entity row, the position of the winning feature row.
pub(crate) fn join(
    entities: &[EntityRow],
    features: &[FeatureRow],
    rules: &Rules,
) -> Vec<Option<usize>> {
    entities
        .iter()
        .map(|entity| winner(entity, features, rules))
        .collect()
}

fn winner(entity: &EntityRow, features: &[FeatureRow], rules: &Rules) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (position, row) in features.iter().enumerate() {
        if is_candidate(entity, row, rules)
            && best.is_none_or(|best| beats_or_ties(row, &features[best], rules))
        {
            best = Some(position);
        }
    }
    best
}

fn is_candidate(entity: &EntityRow, row: &FeatureRow, rules: &Rules) -> bool {
    let Some(entity_ts) = entity.time else {
        return false;
    };
    let keys_match = entity
        .keys
        .iter()
        .zip(&row.keys)
        .all(|(a, b)| a.is_some() && a == b);
    let is_valid = rules.is_static
        || row.event.is_some_and(|event_ts| {
            event_ts <= entity_ts && rules.ttl.is_none_or(|ttl| event_ts >= entity_ts - ttl)
        });
    let asks_known = rules.known_at_entity && rules.has_created;
    let is_known = !asks_known
        || row
            .created
            .is_some_and(|created_ts| created_ts <= entity_ts);
    keys_match && is_valid && is_known
}

/// Whether a row wins over one that was written before it.
fn beats_or_ties(row: &FeatureRow, earlier: &FeatureRow, rules: &Rules) -> bool {
    if !rules.is_static && row.event != earlier.event {
        return row.event > earlier.event;
    }
    // `None` is the lowest
    !rules.has_created || row.created >= earlier.created
}
