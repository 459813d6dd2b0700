//! Runs as one table: what every run has, then a column per metric, param and tag that any of them has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{Field, Schema},
};
use mlplat::tracking::Run;

/// The table, one row per run, in the order of `runs`. The columns that are asked for are there even if no run has them.
pub(super) fn build(runs: &[Run], columns: &[String]) -> mlplat::Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut add = |name: &str, array: ArrayRef| {
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    };
    let texts = |text: &dyn Fn(&Run) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(runs.iter().map(text)))
    };
    let times = |time: &dyn Fn(&Run) -> Option<SystemTime>| -> ArrayRef {
        let micros = runs.iter().map(|run| time(run).map(micros));
        Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
    };
    add("run_id", texts(&|run| Some(run.id.clone())));
    add("experiment", texts(&|run| Some(run.experiment.clone())));
    add("name", texts(&|run| Some(run.name.clone())));
    add("status", texts(&|run| Some(run.status.as_str().to_owned())));
    add("started_at", times(&|run| Some(run.started_at)));
    add("ended_at", times(&|run| run.ended_at));
    add("parent_run_id", texts(&|run| run.parent_run_id.clone()));
    for key in keys(runs, columns, "metrics.", |run| &run.metrics) {
        let values = runs.iter().map(|run| run.metric(key));
        add(
            &format!("metrics.{key}"),
            Arc::new(Float64Array::from_iter(values)),
        );
    }
    for key in keys(runs, columns, "params.", |run| &run.params) {
        add(
            &format!("params.{key}"),
            texts(&|run| run.params.get(key).cloned()),
        );
    }
    for key in keys(runs, columns, "tags.", |run| &run.tags) {
        add(
            &format!("tags.{key}"),
            texts(&|run| run.tags.get(key).cloned()),
        );
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn keys<'a, V: 'a>(
    runs: &'a [Run],
    columns: &'a [String],
    group: &str,
    map: impl Fn(&'a Run) -> &'a BTreeMap<String, V>,
) -> BTreeSet<&'a str> {
    let asked = columns
        .iter()
        .filter_map(|column| column.strip_prefix(group))
        .map(|key| key.trim_matches(['`', '"']));
    runs.iter()
        .flat_map(|run| map(run).keys().map(String::as_str))
        .chain(asked)
        .collect()
}

fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}
