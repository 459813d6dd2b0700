//! What filters mean, and what is said about those that mean nothing.

use proptest::prelude::*;

use super::{
    super::{
        ast::{DatasetPart, OrderBy, Stat, Values},
        fields::parse_order,
        words::MAX_LENGTH,
    },
    *,
};

fn compare(field: Field, test: Test) -> Filter {
    Filter::Compare(field, test)
}

fn metric(key: &str, op: Op, value: f64) -> Filter {
    compare(
        Field::Metric(Stat::Last, key.to_owned()),
        Test::Number(op, value),
    )
}

fn error(filter: &str) -> String {
    parse(filter).expect_err(filter).to_string()
}

#[test]
fn the_example_of_the_contract() {
    let parsed = parse(r#"metrics.mae < 15 AND params.depth = "3""#).expect("a filter");
    let depth = compare(
        Field::Param("depth".to_owned()),
        Test::Text(Op::Eq, "3".to_owned()),
    );
    assert_eq!(
        parsed,
        Filter::All(vec![metric("mae", Op::Lt, 15.0), depth])
    );
}

#[test]
fn empty_fits_all() {
    assert_eq!(parse("  "), Ok(Filter::All(Vec::new())));
}

#[test]
fn and_binds_closer_than_or() {
    let [a, b, c] = ["a", "b", "c"].map(|key| metric(key, Op::Gt, 1.0));
    let without = parse("metrics.a > 1 or metrics.b > 1 and metrics.c > 1");
    assert_eq!(
        without,
        Ok(Filter::Any(vec![
            a.clone(),
            Filter::All(vec![b.clone(), c.clone()])
        ]))
    );
    let with = parse("(metrics.a > 1 OR metrics.b > 1) AND metrics.c > 1");
    assert_eq!(with, Ok(Filter::All(vec![Filter::Any(vec![a, b]), c])));
}

#[test]
fn attributes_under_several_names() {
    let status = |text: &str| {
        compare(
            Field::Attribute(Attribute::Status),
            Test::Text(Op::Eq, text.to_owned()),
        )
    };
    for filter in [
        "status = 'FINISHED'",
        "attributes.status = 'finished'",
        "attr.status = \"FINISHED\"",
    ] {
        assert_eq!(parse(filter), Ok(status("FINISHED")), "{filter}");
    }
    let started = compare(
        Field::Attribute(Attribute::StartedAt),
        Test::Time(Op::Ge, 1_700_000_000_123_000),
    );
    assert_eq!(
        parse("attributes.start_time >= 1700000000123"),
        Ok(started.clone())
    );
    assert_eq!(
        parse("started_at >= '2023-11-14T22:13:20.123Z'"),
        Ok(started)
    );
}

#[test]
fn tags_of_mlflow_that_are_attributes_here() {
    let parent = "parent_run_id = '00000000-0000-0000-0000-0000000000ab'";
    for (filter, meant) in [
        ("tags.mlflow.runName = 'a'", "name = 'a'"),
        ("tag.`mlflow.runName` LIKE 'a%'", "name LIKE 'a%'"),
        (
            "tags.mlflow.parentRunId = '000000000000000000000000000000ab'",
            parent,
        ),
        (
            "tags.mlflow.parentRunId IS NULL",
            "attributes.parent_run_id IS NULL",
        ),
    ] {
        assert_eq!(parse(filter), Ok(parse(meant).expect(meant)), "{filter}");
    }
    assert_eq!(
        parse_order("tags.`mlflow.runName` DESC"),
        Ok(parse_order("name DESC").expect("an order"))
    );
    for key in ["mlflow.user", "mlflow.runname", "mlflow.note.content"] {
        let tag = compare(
            Field::Tag(key.to_owned()),
            Test::Text(Op::Eq, "a".to_owned()),
        );
        assert_eq!(parse(&format!("tags.{key} = 'a'")), Ok(tag));
    }
}

#[test]
fn texts_and_numbers_of_params() {
    let depth = || Field::Param("depth".to_owned());
    assert_eq!(
        parse("params.depth > 3"),
        Ok(compare(depth(), Test::Number(Op::Gt, 3.0)))
    );
    assert_eq!(
        parse("params.depth > '3'"),
        Ok(compare(depth(), Test::Text(Op::Gt, "3".to_owned())))
    );
}

#[test]
fn lists_patterns_and_nulls() {
    let name = || Field::Attribute(Attribute::Name);
    let list = Test::In {
        values: Values::Texts(vec!["a".to_owned(), "b".to_owned()]),
        negated: true,
    };
    assert_eq!(parse("name NOT IN ('a', 'b')"), Ok(compare(name(), list)));
    let numbers = Test::In {
        values: Values::Numbers(vec![1.0, 2.5]),
        negated: false,
    };
    assert_eq!(
        parse("metrics.m in (1, 2.5)"),
        Ok(compare(Field::Metric(Stat::Last, "m".to_owned()), numbers))
    );
    let pattern = Pattern::parse("res%").expect("a pattern");
    assert_eq!(
        parse("name ilike 'res%'"),
        Ok(compare(
            name(),
            Test::Like {
                pattern,
                ignore_case: true,
                negated: false,
            }
        ))
    );
    let parent = Field::Attribute(Attribute::ParentRunId);
    assert_eq!(
        parse("parent_run_id IS NULL"),
        Ok(compare(parent.clone(), Test::Null { negated: false }))
    );
    assert_eq!(
        parse("parent_run_id IS NOT NULL"),
        Ok(compare(parent, Test::Null { negated: true }))
    );
}

#[test]
fn not_binds_closest() {
    let [a, b] = ["a", "b"].map(|key| metric(key, Op::Gt, 1.0));
    let not = |filter: Filter| Filter::Not(Box::new(filter));
    assert_eq!(
        parse("NOT metrics.a > 1 AND metrics.b > 1"),
        Ok(Filter::All(vec![not(a.clone()), b.clone()]))
    );
    assert_eq!(
        parse("not (metrics.a > 1 OR NOT NOT metrics.b > 1)"),
        Ok(not(Filter::Any(vec![a, not(not(b))])))
    );
    assert!(error(&"NOT ".repeat(3000)).contains("nested deeper"));
}

#[test]
fn numbers_of_a_series_and_parts_of_data_sets() {
    let least = Field::Metric(Stat::Min, "val loss".to_owned());
    assert_eq!(
        parse("MIN(metrics.`val loss`) < 1"),
        Ok(compare(least.clone(), Test::Number(Op::Lt, 1.0)))
    );
    assert_eq!(
        parse_order("min(metrics.`val loss`) DESC"),
        Ok(OrderBy {
            field: least,
            descending: true
        })
    );
    assert_eq!(
        parse("dataset.digest = 'd1'"),
        Ok(compare(
            Field::Dataset(DatasetPart::Digest),
            Test::Text(Op::Eq, "d1".to_owned())
        ))
    );
}

#[test]
fn errors_say_where_and_what_to_do() {
    let cases = [
        ("metrics.mae < '15'", 15, "without quotes"),
        ("mae < 15", 1, "metrics.<key>"),
        (
            "metric_s.mae < 15",
            1,
            "metrics, params, tags, datasets or attributes",
        ),
        ("metrics.mae < 15 metrics.b > 1", 18, "AND or OR"),
        ("metrics.mae <", 14, "a value is missing"),
        ("AND metrics.mae < 15", 1, "a field is missing"),
        ("(metrics.mae < 15", 1, "not closed"),
        ("metrics.mae < 15)", 17, "closes nothing"),
        ("name = resnet", 8, "'resnet'"),
        ("status = 'DONE'", 10, "FINISHED"),
        ("status > 'FAILED'", 8, "IN only"),
        ("run_id = 'x'", 10, "not a UUID"),
        ("started_at > 1.5", 14, "milliseconds"),
        ("metrics.m LIKE 'a'", 11, "patterns are for texts"),
        ("name IN 'a'", 9, "parentheses"),
        ("name IN ('a' 'b')", 14, "commas"),
        ("params.x IN ('a', 1)", 19, "not both"),
        ("name NOT 'a'", 6, "NOT stands"),
        ("NOT", 4, "a field is missing"),
        ("min(params.x) > 1", 5, "min(metrics.loss)"),
        ("mean(metrics.x) > 1", 1, "min, max, last and count"),
        ("min(metrics.x > 1", 4, "not closed"),
        ("datasets.size = 'a'", 1, "name, digest, context"),
        ("datasets.name > 3", 17, "not a text"),
        ("metrics.m BETWEEN 1 AND 2", 11, ">="),
        ("name IS 'a'", 9, "NULL"),
        ("name LIKE 'a\\'", 11, "`\\`"),
        ("params.x = NULL", 12, "not a value"),
    ];
    for (filter, position, hint) in cases {
        let said = error(filter);
        assert!(
            said.starts_with(&format!("at character {position}:")),
            "{filter}: {said}"
        );
        assert!(said.contains(hint), "{filter}: {said}");
    }
}

#[test]
fn filters_are_bounded() {
    assert!(error(&"(".repeat(5000)).contains("nested deeper"));
    let many = vec!["metrics.a > 1"; MAX_COMPARISONS + 1].join(" AND ");
    assert!(error(&many).contains("comparisons"));
    let list = vec!["1"; MAX_VALUES + 1].join(",");
    assert!(error(&format!("metrics.a IN ({list})")).contains("values"));
    assert!(error(&" ".repeat(MAX_LENGTH + 1)).contains("longer"));
}

#[test]
fn orders() {
    let mae = || Field::Metric(Stat::Last, "mae".to_owned());
    assert_eq!(
        parse_order("metrics.mae"),
        Ok(OrderBy {
            field: mae(),
            descending: false
        })
    );
    assert_eq!(
        parse_order("metrics.mae desc"),
        Ok(OrderBy {
            field: mae(),
            descending: true
        })
    );
    for bad in ["", "metrics.mae DOWN", "metrics.mae ASC, name", "mae"] {
        assert!(parse_order(bad).is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever comes in: an answer, never a panic.
    #[test]
    fn any_text_gives_an_answer(filter in r#"[a-z_.'"`()<>=! ,0-9\\%ANDORINLKE-]{0,60}|\PC{0,40}"#) {
        let _ = parse(&filter);
        let _ = parse_order(&filter);
    }
}
