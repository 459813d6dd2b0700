//! Inputs between the contract, our own types and the lineage.

use mlplat_proto::tracking::v1 as pb;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    error::Result,
    lineage::{Dataset, Names},
    request::{self, Violations},
    tracking::{entity::run_input, runs},
};

const MAX_INPUTS: usize = 100;
const MAX_FIELDS: usize = 10_000;
/// Longest name, digest and context, in characters.
const MAX_TEXT: usize = 250;
const MAX_SOURCE: usize = 2000;
const MAX_SOURCE_TYPE: usize = 100;
/// Longest name of a field and of its type, in characters.
const MAX_FIELD: usize = 1000;
/// Bytes of all fields of one input, so that no row outgrows a page by much.
const MAX_FIELD_BYTES: usize = 1 << 20;

/// A parsed LogInputs.
#[derive(Debug)]
pub(super) struct NewInputs {
    pub(super) run_id: Uuid,
    /// No two of one name, digest and context.
    pub(super) rows: Vec<run_input::Model>,
}

impl NewInputs {
    pub(super) fn parse(message: pb::LogInputsRequest, now: Timestamp) -> Result<Self> {
        let mut violations = Violations::new();
        let run_id = violations
            .parse("run_id", runs::run_id(&message.run_id))
            .unwrap_or_default();
        let mut rows: Vec<run_input::Model> = Vec::new();
        if message.inputs.is_empty() || message.inputs.len() > MAX_INPUTS {
            violations.add("inputs", format!("must hold 1 to {MAX_INPUTS} data sets"));
        } else {
            for (index, input) in message.inputs.into_iter().enumerate() {
                let row = row(
                    &mut violations,
                    &format!("inputs[{index}]"),
                    run_id,
                    input,
                    now,
                );
                // What comes later says more.
                rows.retain(|before| key(before) != key(&row));
                rows.push(row);
            }
        }
        violations.finish()?;
        Ok(Self { run_id, rows })
    }
}

/// What tells the inputs of a run apart.
pub(super) fn key(row: &run_input::Model) -> (&str, &str, &str) {
    (&row.name, &row.digest, &row.context)
}

fn row(
    violations: &mut Violations,
    field: &str,
    run_id: Uuid,
    input: pb::DatasetInput,
    now: Timestamp,
) -> run_input::Model {
    violations.parse(
        format!("{field}.name"),
        request::name(&input.name, MAX_TEXT),
    );
    for (part, text, max) in [
        ("digest", &input.digest, MAX_TEXT),
        ("context", &input.context, MAX_TEXT),
        ("source", &input.source, MAX_SOURCE),
        ("source_type", &input.source_type, MAX_SOURCE_TYPE),
    ] {
        violations.parse(format!("{field}.{part}"), request::text(text, max));
    }
    let fields = fields(violations, &format!("{field}.fields"), &input.fields);
    let row_count = input
        .rows
        .map(i64::try_from)
        .transpose()
        .unwrap_or_else(|_| {
            violations.add(format!("{field}.rows"), "are more than there can be");
            None
        });
    run_input::Model {
        run_id,
        name: input.name,
        digest: input.digest,
        context: input.context,
        source: input.source,
        source_type: input.source_type,
        fields,
        row_count,
        created_at: now.micros(),
    }
}

/// As stored: a JSON list of pairs.
fn fields(violations: &mut Violations, field: &str, fields: &[pb::DatasetField]) -> String {
    if fields.len() > MAX_FIELDS {
        violations.add(field, format!("must hold at most {MAX_FIELDS} columns"));
        return String::new();
    }
    for (index, of) in fields.iter().enumerate() {
        for (part, text) in [("name", &of.name), ("type", &of.r#type)] {
            let place = format!("{field}[{index}].{part}");
            violations.parse(place, request::text(text, MAX_FIELD));
        }
    }
    let pairs: Vec<[&str; 2]> = fields
        .iter()
        .map(|f| [f.name.as_str(), &f.r#type])
        .collect();
    let text = serde_json::to_string(&pairs).unwrap_or_default();
    if text.len() > MAX_FIELD_BYTES {
        violations.add(
            field,
            format!("must have at most {MAX_FIELD_BYTES} bytes in all"),
        );
    }
    text
}

fn pairs(fields: &str) -> Vec<[String; 2]> {
    serde_json::from_str(fields).unwrap_or_default()
}

impl From<run_input::Model> for pb::DatasetInput {
    fn from(row: run_input::Model) -> Self {
        Self {
            fields: pairs(&row.fields)
                .into_iter()
                .map(|[name, r#type]| pb::DatasetField { name, r#type })
                .collect(),
            name: row.name,
            digest: row.digest,
            source: row.source,
            source_type: row.source_type,
            context: row.context,
            rows: row.row_count.and_then(|rows| u64::try_from(rows).ok()),
        }
    }
}

/// What the lineage calls it: a path or URI is the file that it names, and goes by the name of the data set as well.
pub(super) fn dataset(names: &Names, row: &run_input::Model) -> Dataset {
    let named = names.dataset_input(&row.name).at_version(&row.digest);
    let is_place = row.source.contains("://") || row.source.starts_with('/');
    let dataset = if is_place {
        let version = Some(row.digest.as_str()).filter(|digest| !digest.is_empty());
        names
            .file_source(&row.source, version)
            .also_known_as(&named)
    } else {
        named
    };
    dataset.with_schema(pairs(&row.fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const RUN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn parse(inputs: Vec<pb::DatasetInput>) -> Result<NewInputs> {
        let message = pb::LogInputsRequest {
            run_id: RUN.to_owned(),
            inputs,
            ..Default::default()
        };
        NewInputs::parse(message, Timestamp(1))
    }

    fn input(name: &str, digest: &str) -> pb::DatasetInput {
        pb::DatasetInput {
            name: name.to_owned(),
            digest: digest.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn the_same_input_twice_is_one() {
        let mut again = input("a", "1");
        again.rows = Some(5);
        let new = parse(vec![input("a", "1"), input("a", "2"), again]).expect("valid");
        let kept: Vec<_> = new
            .rows
            .iter()
            .map(|row| (key(row).1, row.row_count))
            .collect();
        assert_eq!(kept, [("2", None), ("1", Some(5))]);
    }

    #[test]
    fn fields_lead_back() {
        let mut wanted = input("a", "1");
        wanted.fields = vec![pb::DatasetField {
            name: "x\"".to_owned(),
            r#type: "int64".to_owned(),
        }];
        let new = parse(vec![wanted.clone()]).expect("valid");
        let back: Vec<pb::DatasetInput> = new.rows.into_iter().map(Into::into).collect();
        assert_eq!(back, [wanted]);
    }

    #[test]
    fn all_bad_fields_at_once() {
        let mut bad = input("", &"x".repeat(MAX_TEXT + 1));
        bad.source = "a\0".to_owned();
        bad.rows = Some(u64::MAX);
        let Err(Error::Invalid(found)) = parse(vec![bad]) else {
            panic!("must be invalid")
        };
        let fields: Vec<&str> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "inputs[0].name",
                "inputs[0].digest",
                "inputs[0].source",
                "inputs[0].rows"
            ]
        );
        assert!(parse(Vec::new()).is_err());
    }

    #[test]
    fn a_place_is_a_file_and_a_name_is_a_data_set() {
        let names = Names::new("laptop", "default");
        let row = |source: &str| run_input::Model {
            source: source.to_owned(),
            ..parse(vec![input("flights", "d1")]).expect("valid").rows[0].clone()
        };
        assert_eq!(
            dataset(&names, &row("/data/f.parquet")).name(),
            "/data/f.parquet"
        );
        assert_eq!(dataset(&names, &row("s3://b/k")).name(), "k");
        for source in ["", "glue"] {
            assert_eq!(dataset(&names, &row(source)).name(), "datasets/flights");
        }
    }
}
