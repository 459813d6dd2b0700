//! 10,000 random cases through the API against the brute-force oracle.
//!
//! A case is a small feature table and a few entity rows. A hundred cases travel in one retrieval, told apart by a key
//! column of their own; what they share (TTL, `known_at`, units, types) differs from retrieval to retrieval.

#[path = "../../../server/src/features/asof/oracle.rs"]
mod oracle;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    },
    datatypes::Int64Type,
};
use mlplat::features::{HistoricalQuery, KnownAt, Materialize, OnlineQuery};
use mlplat_tests::TestServer;
use oracle::{EntityRow, FeatureRow, Rules};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{apply_view, table, whole};

const ROUNDS: usize = 100;
const CASES_PER_ROUND: usize = 100;

/// The unit in which a column of timestamps is written: nanoseconds in one of it.
const UNITS: [i128; 4] = [1_000_000_000, 1_000_000, 1_000, 1];

struct Round {
    rules: Rules,
    /// Key columns besides the number of the case.
    keys: usize,
    text_keys: bool,
    units: [i128; 3],
    /// Rows with the case they belong to.
    features: Vec<(i64, FeatureRow)>,
    entities: Vec<(i64, EntityRow)>,
}

/// Few instants around a second, so that they tie, and touch the bounds.
fn instant(rng: &mut StdRng, unit: i128) -> Option<i128> {
    const NUDGES: [i128; 5] = [0, 0, 1, -1, 1_000];
    const AT: i128 = 1_767_312_000_000_000_000;
    if rng.random_bool(0.05) {
        return None;
    }
    let at = AT
        + i128::from(rng.random_range(-2_i64..6)) * 500_000_000
        + NUDGES[rng.random_range(0..NUDGES.len())];
    Some(at.div_euclid(unit) * unit)
}

fn keys(rng: &mut StdRng, count: usize) -> Vec<Option<String>> {
    (0..count)
        .map(|_| {
            rng.random_bool(0.93)
                .then(|| ["1", "11", "111"][rng.random_range(0..3)].to_owned())
        })
        .collect()
}

fn round(seed: u64) -> Round {
    let rng = &mut StdRng::seed_from_u64(seed);
    let units = [0; 3].map(|_| UNITS[rng.random_range(0..UNITS.len())]);
    let ttls = [
        None,
        None,
        Some(0),
        Some(1_000),
        Some(500_000_000),
        Some(1_000_000_000),
        Some(1_000_001_000),
    ];
    let is_static = rng.random_bool(0.1);
    let has_created = rng.random_bool(0.5);
    let rules = Rules {
        ttl: if is_static {
            None
        } else {
            ttls[rng.random_range(0..ttls.len())]
        },
        known_at_entity: has_created && rng.random_bool(0.5),
        is_static,
        has_created,
    };
    let count = rng.random_range(0..=2);
    let (mut features, mut entities) = (Vec::new(), Vec::new());
    for case in 0..CASES_PER_ROUND as i64 {
        for _ in 0..rng.random_range(0..12) {
            let row = FeatureRow {
                keys: keys(rng, count),
                event: instant(rng, units[1]),
                created: instant(rng, units[2]),
            };
            features.push((case, row));
        }
        for _ in 0..rng.random_range(1..5) {
            entities.push((
                case,
                EntityRow {
                    keys: keys(rng, count),
                    time: instant(rng, units[0]),
                },
            ));
        }
    }
    // The rows of the cases lie between one another, so that the order of files matters within each.
    for at in (1..features.len()).rev() {
        features.swap(at, rng.random_range(0..=at));
    }
    Round {
        rules,
        keys: count,
        text_keys: rng.random_bool(0.5),
        units,
        features,
        entities,
    }
}

fn instants(unit: i128, values: impl Iterator<Item = Option<i128>>) -> ArrayRef {
    let values = values.map(|value| value.map(|value| (value / unit) as i64));
    match unit {
        1_000_000_000 => Arc::new(values.collect::<TimestampSecondArray>()),
        1_000_000 => Arc::new(
            values
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
        1_000 => Arc::new(values.collect::<TimestampMicrosecondArray>()),
        _ => Arc::new(
            values
                .collect::<TimestampNanosecondArray>()
                .with_timezone("+02:00"),
        ),
    }
}

impl Round {
    fn key_columns<'a>(
        &self,
        rows: impl Iterator<Item = (i64, &'a Vec<Option<String>>)> + Clone,
    ) -> Vec<(String, ArrayRef)> {
        let mut columns = vec![(
            "case".to_owned(),
            Arc::new(rows.clone().map(|row| row.0).collect::<Int64Array>()) as ArrayRef,
        )];
        for index in 0..self.keys {
            let values = rows.clone().map(|row| row.1[index].clone());
            let column: ArrayRef = if self.text_keys {
                Arc::new(values.collect::<StringArray>())
            } else {
                Arc::new(
                    values
                        .map(|key| key.map(|key| key.parse::<i64>().expect("digits")))
                        .collect::<Int64Array>(),
                )
            };
            columns.push((format!("k{index}"), column));
        }
        columns
    }

    fn key_names(&self) -> Vec<String> {
        std::iter::once("case".to_owned())
            .chain((0..self.keys).map(|index| format!("k{index}")))
            .collect()
    }

    fn feature_table(&self) -> RecordBatch {
        let mut columns =
            self.key_columns(self.features.iter().map(|(case, row)| (*case, &row.keys)));
        columns.push((
            "id".to_owned(),
            Arc::new((0..self.features.len() as i64).collect::<Int64Array>()),
        ));
        if !self.rules.is_static {
            columns.push((
                "event".to_owned(),
                instants(self.units[1], self.features.iter().map(|row| row.1.event)),
            ));
        }
        if self.rules.has_created {
            columns.push((
                "created".to_owned(),
                instants(self.units[2], self.features.iter().map(|row| row.1.created)),
            ));
        }
        table(
            columns
                .iter()
                .map(|(name, column)| (name.as_str(), column.clone()))
                .collect(),
        )
    }

    fn entity_table(&self) -> RecordBatch {
        let mut columns =
            self.key_columns(self.entities.iter().map(|(case, row)| (*case, &row.keys)));
        columns.push((
            "time".to_owned(),
            instants(self.units[0], self.entities.iter().map(|row| row.1.time)),
        ));
        table(
            columns
                .iter()
                .map(|(name, column)| (name.as_str(), column.clone()))
                .collect(),
        )
    }

    /// Per entity row, the id of the winning feature row: each case for itself.
    fn expected(&self) -> Vec<Option<i64>> {
        let mut expected = Vec::new();
        for case in 0..CASES_PER_ROUND as i64 {
            let (ids, features): (Vec<i64>, Vec<FeatureRow>) = self
                .features
                .iter()
                .enumerate()
                .filter(|(_, row)| row.0 == case)
                .map(|(id, row)| (id as i64, row.1.clone()))
                .unzip();
            let entities: Vec<EntityRow> = self
                .entities
                .iter()
                .filter(|row| row.0 == case)
                .map(|row| row.1.clone())
                .collect();
            let winners = oracle::join(&entities, &features, &self.rules);
            expected.extend(winners.into_iter().map(|winner| winner.map(|at| ids[at])));
        }
        expected
    }
}

fn ids(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch
        .column_by_name(name)
        .expect("the feature")
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cases_are_what_the_oracle_says() {
    let server = TestServer::start().await;
    let (client, folder) = (server.client(), server.folder());
    let (mut rows, mut matched) = (0, 0);
    for number in 0..ROUNDS {
        let round = round(number as u64);
        let name = format!("v{number}");
        let ttl = round.rules.ttl.map(|ttl| Duration::from_nanos(ttl as u64));
        let key_names = round.key_names();
        let keys: Vec<&str> = key_names.iter().map(String::as_str).collect();
        apply_view(&client, &folder, &name, &round.feature_table(), &keys, ttl).await;
        let known_at = if round.rules.known_at_entity {
            KnownAt::Entity
        } else {
            KnownAt::Event
        };
        let query = HistoricalQuery::new([format!("{name}:id")])
            .timestamp("time")
            .known_at(known_at);
        let result = client
            .features()
            .historical(query, round.entity_table())
            .await
            .expect("sent")
            .collect()
            .await;
        let found = ids(
            &whole(&result.unwrap_or_else(|error| panic!("round {number}: {error}"))),
            "id",
        );
        let expected = round.expected();
        assert_eq!(
            found, expected,
            "round {number}: {:?}, units {:?}",
            round.rules, round.units
        );
        rows += found.len();
        matched += found.iter().flatten().count();
    }
    assert!(
        matched * 5 > rows && matched * 5 < rows * 4,
        "{matched} of {rows} rows match: the cases say little"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn online_equals_historical_at_the_same_time() {
    let server = TestServer::start().await;
    let (client, folder) = (server.client(), server.folder());
    let mut compared = 0;
    for number in 0..20_u64 {
        let round = round(1_000 + number);
        if round.rules.known_at_entity {
            continue;
        }
        let name = format!("v{number}");
        let ttl = round.rules.ttl.map(|ttl| Duration::from_nanos(ttl as u64));
        let key_names = round.key_names();
        let keys: Vec<&str> = key_names.iter().map(String::as_str).collect();
        apply_view(&client, &folder, &name, &round.feature_table(), &keys, ttl).await;
        // Half a second after the last event, so that some rows are too old and some are not.
        let at_us = 1_767_312_003_000_000_i64;
        let at = std::time::UNIX_EPOCH + Duration::from_micros(at_us as u64);
        client
            .features()
            .materialize(Materialize::new([name.clone()]).end(at))
            .await
            .expect("begun")
            .finish()
            .await
            .expect("done");

        let mut entities = Round {
            rules: round.rules.clone(),
            units: [1_000, 0, 0],
            ..round
        };
        entities
            .entities
            .retain(|(_, row)| row.keys.iter().all(Option::is_some));
        entities
            .entities
            .iter_mut()
            .for_each(|(_, row)| row.time = Some(i128::from(at_us) * 1_000));
        let asked = entities.entity_table();
        let query = HistoricalQuery::new([format!("{name}:id")]).timestamp("time");
        let historical = client
            .features()
            .historical(query, asked)
            .await
            .expect("sent")
            .collect()
            .await
            .expect("complete");
        let historical = ids(&whole(&historical), "id");

        let mut query = OnlineQuery::new([format!("{name}:id")])
            .columns(keys.iter().copied())
            .at(at);
        for (case, row) in &entities.entities {
            let others = row
                .keys
                .iter()
                .flatten()
                .map(|key| match entities.text_keys {
                    true => mlplat::Value::from(key.as_str()),
                    false => mlplat::Value::from(key.parse::<i64>().expect("digits")),
                });
            query = query.row(std::iter::once(mlplat::Value::from(*case)).chain(others));
        }
        let online = client
            .features()
            .online(query)
            .await
            .expect("an answer")
            .to_record_batch()
            .expect("a table");
        assert_eq!(
            ids(&online, "id"),
            historical,
            "round {number}: {:?}",
            entities.rules
        );
        compared += historical.len();
    }
    assert!(compared > 1_000, "{compared}");
    server.stop().await;
}
