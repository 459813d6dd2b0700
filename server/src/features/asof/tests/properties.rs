//! Random small cases against the oracle: keys of several types, units, batchings and push orders.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, DictionaryArray, Int32Array, Int64Array, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::oracle::{self, EntityRow, FeatureRow, Rules};
use super::super::{AsOf, EntitySide, Matches};
use super::{batch, ints, options, side, strings};

const CASES: u32 = 12_000;

/// The unit in which one column of timestamps is written.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Day,
    Second,
    Milli,
    Micro,
    Nano,
}

impl Unit {
    fn nanos(self) -> i128 {
        match self {
            Self::Day => 86_400_000_000_000,
            Self::Second => 1_000_000_000,
            Self::Milli => 1_000_000,
            Self::Micro => 1_000,
            Self::Nano => 1,
        }
    }

    /// What is left of an instant when it is written in this unit.
    fn floor(self, instant: i128) -> i128 {
        instant.div_euclid(self.nanos()) * self.nanos()
    }

    fn column(self, instants: &[Option<i128>]) -> ArrayRef {
        let values = instants
            .iter()
            .map(|instant| instant.map(|instant| (instant / self.nanos()) as i64));
        match self {
            Self::Day => Arc::new(
                values
                    .map(|value| value.map(|value| value as i32))
                    .collect::<Date32Array>(),
            ),
            Self::Second => Arc::new(
                values
                    .collect::<TimestampSecondArray>()
                    .with_timezone("+01:00"),
            ),
            Self::Milli => Arc::new(values.collect::<TimestampMillisecondArray>()),
            Self::Micro => Arc::new(
                values
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            Self::Nano => Arc::new(values.collect::<TimestampNanosecondArray>()),
        }
    }
}

/// How the values of a key column are written.
#[derive(Debug, Clone, Copy)]
enum KeyType {
    Int32,
    Int64,
    Text,
    View,
    Dictionary,
}

impl KeyType {
    fn column(self, keys: &[Option<String>]) -> ArrayRef {
        let numbers = || {
            keys.iter().map(|key| {
                key.as_ref()
                    .map(|key| key.parse::<i64>().expect("keys are digits"))
            })
        };
        let texts = || keys.iter().map(Option::as_deref);
        match self {
            Self::Int32 => Arc::new(
                numbers()
                    .map(|key| key.map(|key| key as i32))
                    .collect::<Int32Array>(),
            ),
            Self::Int64 => Arc::new(numbers().collect::<Int64Array>()),
            Self::Text => Arc::new(texts().collect::<StringArray>()),
            Self::View => Arc::new(texts().collect::<StringViewArray>()),
            Self::Dictionary => Arc::new(texts().collect::<DictionaryArray<Int8Type>>()),
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    entities: Vec<EntityRow>,
    features: Vec<FeatureRow>,
    rules: Rules,
    /// Key types of the entity and the feature side, per key.
    key_types: Vec<(KeyType, KeyType)>,
    /// Units of the entity, event and created columns.
    units: (Unit, Unit, Unit),
    /// Rows per batch of either side, cycled.
    batching: Vec<usize>,
    /// Where each batch of features is pushed, when parts tell their order.
    shuffle: Vec<u16>,
}

fn instant() -> impl Strategy<Value = i128> {
    // whole and half seconds around zero, give or take the finest units; few, so that they tie
    let nudge = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(-1), 1 => Just(1_000), 1 => Just(-1_000_000)];
    (-2..6i128, nudge).prop_map(|(halves, nudge)| halves * 500_000_000 + nudge)
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        1 => Just(Unit::Day), 2 => Just(Unit::Second), 3 => Just(Unit::Milli), 3 => Just(Unit::Micro), 4 => Just(Unit::Nano),
    ]
}

fn key_types() -> impl Strategy<Value = (KeyType, KeyType)> {
    let number = || prop_oneof![Just(KeyType::Int32), Just(KeyType::Int64)];
    let text = || {
        prop_oneof![
            Just(KeyType::Text),
            Just(KeyType::View),
            Just(KeyType::Dictionary)
        ]
    };
    prop_oneof![(number(), number()), (text(), text())]
}

fn keys(count: usize) -> impl Strategy<Value = Vec<Option<String>>> {
    vec(
        option::weighted(
            0.9,
            prop_oneof![
                Just("1".to_owned()),
                Just("11".to_owned()),
                Just("111".to_owned())
            ],
        ),
        count,
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    let ttl = prop_oneof![
        4 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1)), 1 => Just(Some(1_500)), 2 => Just(Some(500_000_000)),
        2 => Just(Some(1_000_000_000)), 1 => Just(Some(1_000_000_001)),
    ];
    (
        ttl,
        any::<bool>(),
        prop::bool::weighted(0.15),
        any::<bool>(),
    )
        .prop_map(|(ttl, known_at_entity, is_static, has_created)| Rules {
            ttl,
            // without created timestamps the join refuses to answer, and a test of its own says so
            known_at_entity: known_at_entity && (has_created || is_static),
            is_static,
            has_created,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (vec(key_types(), 0..=2), rules(), (unit(), unit(), unit()));
    shape.prop_flat_map(|(key_types, rules, units)| {
        let count = key_types.len();
        let maybe = |unit: Unit| {
            option::weighted(0.9, instant()).prop_map(move |at| at.map(|at| unit.floor(at)))
        };
        let entity =
            (keys(count), maybe(units.0)).prop_map(|(keys, time)| EntityRow { keys, time });
        let feature =
            (keys(count), maybe(units.1), maybe(units.2)).prop_map(|(keys, event, created)| {
                FeatureRow {
                    keys,
                    event,
                    created,
                }
            });
        (
            vec(entity, 0..10),
            vec(feature, 0..24),
            vec(1..6usize, 1..4),
            vec(any::<u16>(), 24),
        )
            .prop_map(move |(entities, features, batching, shuffle)| Case {
                entities,
                features,
                rules: rules.clone(),
                key_types: key_types.clone(),
                units,
                batching,
                shuffle,
            })
    })
}

impl Case {
    fn entity_batch(&self) -> RecordBatch {
        let times: Vec<_> = self.entities.iter().map(|row| row.time).collect();
        let mut columns = vec![("time".to_owned(), self.units.0.column(&times))];
        for (index, (key_type, _)) in self.key_types.iter().enumerate() {
            let keys: Vec<_> = self
                .entities
                .iter()
                .map(|row| row.keys[index].clone())
                .collect();
            columns.push((format!("k{index}"), key_type.column(&keys)));
        }
        named(columns)
    }

    /// Feature "id" is the position of the row, "text" says it in words, "list" repeats it.
    fn feature_batch(&self) -> RecordBatch {
        let ids: Vec<_> = (0..self.features.len() as i64).map(Some).collect();
        let text: DictionaryArray<Int32Type> = ids
            .iter()
            .map(|id| id.filter(|id| id % 3 != 0).map(|id| format!("row {id}")))
            .collect::<Vec<_>>()
            .iter()
            .map(Option::as_deref)
            .collect();
        let mut columns = vec![
            ("id".to_owned(), ints(&ids)),
            ("text".to_owned(), Arc::new(text) as ArrayRef),
        ];
        for (index, (_, key_type)) in self.key_types.iter().enumerate() {
            let keys: Vec<_> = self
                .features
                .iter()
                .map(|row| row.keys[index].clone())
                .collect();
            columns.push((format!("k{index}"), key_type.column(&keys)));
        }
        if !self.rules.is_static {
            let events: Vec<_> = self.features.iter().map(|row| row.event).collect();
            columns.push(("event".to_owned(), self.units.1.column(&events)));
        }
        if self.rules.has_created {
            let created: Vec<_> = self.features.iter().map(|row| row.created).collect();
            columns.push(("created".to_owned(), self.units.2.column(&created)));
        }
        named(columns)
    }

    fn cut(&self, whole: &RecordBatch) -> Vec<RecordBatch> {
        let mut lengths = self.batching.iter().cycle();
        let (mut batches, mut offset) = (Vec::new(), 0);
        while offset < whole.num_rows() {
            let length = (*lengths.next().expect("never ends")).min(whole.num_rows() - offset);
            batches.push(whole.slice(offset, length));
            offset += length;
        }
        batches
    }

    fn run(&self, in_order: bool, pruned: bool) -> Matches {
        let (entities, features) = (self.entity_batch(), self.feature_batch());
        let names: Vec<String> = (0..self.key_types.len())
            .map(|index| format!("k{index}"))
            .collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let entity_batches = self.cut(&entities);
        let entity_side = EntitySide {
            schema: entities.schema(),
            batches: &entity_batches,
            keys: strings(&keys),
            timestamp: "time".to_owned(),
        };
        let ttl = self.rules.ttl.map(|ttl| Duration::from_nanos(ttl as u64));
        let options = options(ttl, self.rules.known_at_entity);
        let mut join = AsOf::new(
            &entity_side,
            &side(&features, &keys, &["id", "text"]),
            &options,
        )
        .expect("a valid join");
        let pruning = join.pruning().clone();
        let mut parts: Vec<(usize, RecordBatch)> =
            self.cut(&features).into_iter().enumerate().collect();
        if pruned {
            parts
                .iter_mut()
                .for_each(|(_, batch)| *batch = super::prune(batch, &pruning));
        }
        if in_order {
            parts
                .iter()
                .for_each(|(_, batch)| join.push(batch).expect("a valid batch"));
        } else {
            parts.sort_by_key(|(part, _)| self.shuffle[*part]);
            parts.iter().for_each(|(part, batch)| {
                join.push_part(*part as u32, batch).expect("a valid batch")
            });
        }
        join.finish().expect("a valid join")
    }
}

fn named(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = columns
        .iter()
        .map(|(name, column)| (name.as_str(), column.clone()))
        .collect();
    batch(&columns)
}

fn check(matches: &Matches, expected: &[Option<usize>]) -> Result<(), TestCaseError> {
    let features = matches.features(0..matches.len()).expect("fits");
    let ids: Vec<_> = features[0]
        .as_primitive::<Int64Type>()
        .iter()
        .map(|id| id.map(|id| id as usize))
        .collect();
    prop_assert_eq!(&ids, expected);
    let texts = features[1].as_dictionary::<Int32Type>();
    let texts = texts.downcast_dict::<StringArray>().expect("texts");
    for (row, id) in expected.iter().enumerate() {
        prop_assert_eq!(matches.is_match(row), id.is_some());
        let text = id.filter(|id| id % 3 != 0).map(|id| format!("row {id}"));
        prop_assert_eq!(texts.is_valid(row), text.is_some());
        if let Some(text) = text {
            prop_assert_eq!(texts.into_iter().nth(row).flatten(), Some(text.as_str()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_join_is_what_the_oracle_says(case in case()) {
        let expected = oracle::join(&case.entities, &case.features, &case.rules);
        prop_assert_eq!(expected.len(), case.entities.len());
        for (in_order, pruned) in [(true, false), (false, false), (true, true)] {
            check(&case.run(in_order, pruned), &expected)?;
        }
    }
}

#[test]
fn random_cases_are_worth_their_name() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut rows, mut matched, mut limited) = (0, 0, 0);
    for _ in 0..1_000 {
        let case = case().new_tree(&mut runner).expect("a case").current();
        let found = oracle::join(&case.entities, &case.features, &case.rules);
        let unlimited = Rules {
            ttl: None,
            known_at_entity: false,
            ..case.rules.clone()
        };
        let without = oracle::join(&case.entities, &case.features, &unlimited);
        rows += found.len();
        matched += found.iter().flatten().count();
        limited += found.iter().zip(&without).filter(|(a, b)| a != b).count();
    }
    assert!(
        matched * 5 > rows && matched * 5 < rows * 4,
        "{matched} of {rows} rows match"
    );
    assert!(
        limited * 20 > rows,
        "ttl or known_at decide {limited} of {rows} rows"
    );
}
