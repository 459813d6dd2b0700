//! GetOnlineFeatures: looks up the newest rows of some keys, as historical retrieval at that time would find them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow::{array::ArrayRef, datatypes::DataType};
use mlplat_proto::{
    common::v1::Value,
    features::v1::{self as pb, EntityRow, FeatureStatus},
};
use prost::Message as _;

use super::{KeyEncoder, Layout, Row, TableId, value};
use crate::{
    auth::{Action, Caller, Scope},
    error::{Error, Result},
    features::{
        Features,
        coerce::lossless,
        definitions::{names::listed, store},
        instant,
        selection::{Computation, Join, Selection, Value as Column},
    },
    request::{self, Violations, project_name},
};

const MAX_ROWS: usize = 10_000;

/// Values and statuses of one feature, one per row.
#[derive(Debug, Clone, Default)]
struct Answers {
    values: Vec<Value>,
    statuses: Vec<FeatureStatus>,
}

impl Answers {
    fn push(&mut self, value: Value) {
        let status = match value.kind {
            Some(_) => FeatureStatus::Present,
            None => FeatureStatus::NullValue,
        };
        self.values.push(value);
        self.statuses.push(status);
    }

    fn push_nothing(&mut self, status: FeatureStatus) {
        self.values.push(Value { kind: None });
        self.statuses.push(status);
    }
}

/// Handles the request.
pub(in crate::features) async fn read(
    features: &Arc<Features>,
    caller: &Caller,
    request: pb::GetOnlineFeaturesRequest,
) -> Result<pb::GetOnlineFeaturesResponse> {
    check(&request)?;
    let app = &features.app;
    let project = project_name(&request.project);
    let scope = caller
        .authorize(app, Action::ReadFeatures, &project)
        .await?;
    let catalog = store::load(app.db.read(), &scope).await?;
    let selection = Selection::of(
        &catalog,
        &request.features,
        &request.aliases,
        request.full_names,
    )?;
    let at = match &request.at {
        Some(at) => instant::nanos(at),
        None => i128::from(app.now().micros()) * 1_000,
    };
    let rows = RequestRows::of(&request);
    rows.check_columns(&selection)?;
    let mut joined = Vec::with_capacity(selection.joins.len());
    for join in &selection.joins {
        joined.push(look_up(features, &scope, join, &rows, at).await?);
    }
    let mut computed = Vec::with_capacity(selection.computed.len());
    for computation in &selection.computed {
        computed.push(compute(computation, &selection, &joined, &rows)?);
    }
    let features = selection.columns.into_iter().map(|column| {
        let answers = match column.value {
            Column::Joined { join, feature } => joined[join][feature].clone(),
            Column::Computed {
                computation,
                feature,
            } => computed[computation][feature].clone(),
        };
        pb::OnlineFeature {
            name: column.name,
            data_type: column.data_type,
            values: answers.values,
            statuses: answers.statuses.into_iter().map(Into::into).collect(),
        }
    });
    Ok(pb::GetOnlineFeaturesResponse {
        features: features.collect(),
    })
}

fn check(request: &pb::GetOnlineFeaturesRequest) -> Result<()> {
    let mut violations = Violations::new();
    if request.rows.len() > MAX_ROWS {
        let text = format!(
            "must be at most {MAX_ROWS}, are {}; ask in parts",
            request.rows.len()
        );
        violations.add("rows", text);
    }
    for (at, column) in request.columns.iter().enumerate() {
        if request.columns[..at].contains(column) {
            violations.add(
                format!("columns[{at}]"),
                format!("`{column}` is there twice"),
            );
        }
    }
    let wanted = request.columns.len();
    for (at, row) in request.rows.iter().enumerate() {
        if row.values.len() != wanted {
            let text = format!("must be {wanted}, one per column, are {}", row.values.len());
            violations.add(format!("rows[{at}].values"), text);
            break; // one is enough to see what is wrong
        }
    }
    if let Some(at) = &request.at {
        violations.parse("at", request::timestamp(at));
    }
    violations.finish()
}

/// The rows of a request by column.
struct RequestRows<'a> {
    columns: BTreeMap<&'a str, Vec<&'a Value>>,
    names: &'a [String],
    len: usize,
}

impl<'a> RequestRows<'a> {
    fn of(request: &'a pb::GetOnlineFeaturesRequest) -> Self {
        let columns = request.columns.iter().enumerate().map(|(at, name)| {
            let values = request
                .rows
                .iter()
                .filter_map(move |row| row.values.get(at));
            (name.as_str(), values.collect())
        });
        Self {
            columns: columns.collect(),
            names: &request.columns,
            len: request.rows.len(),
        }
    }

    /// Everything that is missing, at once.
    fn check_columns(&self, selection: &Selection) -> Result<()> {
        let mut violations = Violations::new();
        let given = listed(self.names.iter().map(String::as_str));
        let mut need = |column: &str, who: String| {
            if !self.columns.contains_key(column) {
                let text = format!("{who} `{column}`, which is not there; given are {given}");
                violations.add("columns", text);
            }
        };
        for join in &selection.joins {
            for key in &join.keys {
                need(
                    key,
                    format!("feature view `{}` needs the key column", join.name),
                );
            }
        }
        for computation in &selection.computed {
            for (column, _) in computation.on_demand.request_columns() {
                let who = &computation.name;
                need(
                    column,
                    format!("on-demand feature view `{who}` needs the request column"),
                );
            }
        }
        violations.finish()
    }

    /// A column in the type that is wanted.
    fn column(&self, name: &str, data_type: &DataType) -> Result<ArrayRef> {
        let values = self
            .columns
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let array = value::to_natural_array(values)
            .and_then(|array| lossless(&array, data_type))
            .map_err(|text| Error::invalid("rows", format!("column `{name}` {text}")))?;
        Ok(array)
    }
}

/// The features of one join, in its order.
async fn look_up(
    features: &Features,
    scope: &Scope,
    join: &Join,
    rows: &RequestRows<'_>,
    at: i128,
) -> Result<Vec<Answers>> {
    let view = &join.view;
    let name = &view.definition.name;
    if !view.definition.online {
        return Err(not_online(name));
    }
    let encoder = key_encoder(name, &view.key_types)?;
    let mut columns = Vec::with_capacity(join.keys.len());
    for (column, data_type) in join.keys.iter().zip(encoder.types()) {
        columns.push(rows.column(column, data_type)?);
    }
    let keys = encoder.encode(&columns, rows.len)?;
    let table = TableId::of(scope.project_id(), view);
    let asked: Vec<Vec<u8>> = keys.iter().flatten().cloned().collect();
    let mut found = features.online.read(&table, asked).await?.into_iter();
    let ttl = view.definition.ttl.map(Duration::try_from).transpose();
    let ttl = ttl
        .map_err(Error::internal)?
        .map(|ttl| ttl.as_nanos() as i128);
    let mut answers = vec![Answers::default(); join.features.len()];
    let mut layouts: HashMap<u64, Vec<Option<usize>>> = HashMap::new();
    for key in &keys {
        // A null key is not asked for and equals nothing.
        let row = key.as_ref().and_then(|_| found.next().flatten());
        let row = match row.ok_or(FeatureStatus::NotFound) {
            Ok(row) => valid_at(row, at, ttl),
            Err(status) => Err(status),
        };
        let row = match row {
            Ok(row) => row,
            Err(status) => {
                answers
                    .iter_mut()
                    .for_each(|answer| answer.push_nothing(status));
                continue;
            }
        };
        let positions = match layouts.get(&row.layout) {
            Some(positions) => positions,
            None => {
                let layout = features.online.layout(&table, row.layout).await?;
                let positions = positions(join, layout.as_ref());
                layouts.entry(row.layout).or_insert(positions)
            }
        };
        let mut values = EntityRow::decode(row.values.as_slice())
            .map_err(Error::internal)?
            .values;
        for (answer, position) in answers.iter_mut().zip(positions) {
            match position.and_then(|at| values.get_mut(at)) {
                Some(value) => answer.push(std::mem::take(value)),
                // The row was written before the view had this feature.
                None => answer.push_nothing(FeatureStatus::NotFound),
            }
        }
    }
    Ok(answers)
}

/// The encoder for the keys of a view.
pub(in crate::features) fn key_encoder(view: &str, types: &[String]) -> Result<KeyEncoder> {
    let types = types.iter().map(|text| text.parse::<DataType>());
    let types = types
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::internal)?;
    KeyEncoder::new(view, types)
}

/// The error of a view that is not for the online store.
pub(in crate::features) fn not_online(view: &str) -> Error {
    let text = format!("feature view `{view}` is not online; apply it with online=True first");
    Error::precondition("VIEW_NOT_ONLINE", text)
}

/// The row if it counts at that time.
fn valid_at(row: Row, at: i128, ttl: Option<i128>) -> Result<Row, FeatureStatus> {
    match row.event {
        Some(event) if event > at => Err(FeatureStatus::NotFound),
        Some(event) if ttl.is_some_and(|ttl| event < at - ttl) => Err(FeatureStatus::OutsideMaxAge),
        _ => Ok(row),
    }
}

/// Where the features of a join are in a stored row. One of another type than now is not there.
fn positions(join: &Join, layout: Option<&Layout>) -> Vec<Option<usize>> {
    let stored = layout.map(|layout| layout.0.as_slice()).unwrap_or_default();
    let each = join.features.iter().map(|name| {
        let now = join.view.feature(name)?;
        stored
            .iter()
            .position(|(stored, data_type)| stored == name && *data_type == now.data_type)
    });
    each.collect()
}

/// The features of an on-demand view, in its order.
fn compute(
    computation: &Computation,
    selection: &Selection,
    joined: &[Vec<Answers>],
    rows: &RequestRows<'_>,
) -> Result<Vec<Answers>> {
    let mut inputs = Vec::with_capacity(computation.inputs.len());
    for &(join, feature) in &computation.inputs {
        let name = &selection.joins[join].features[feature];
        let feature_type = selection.joins[join].view.feature(name);
        let data_type = feature_type.map(|feature| feature.data_type.parse::<DataType>());
        let data_type = data_type
            .transpose()
            .map_err(Error::internal)?
            .unwrap_or(DataType::Null);
        let values: Vec<&Value> = joined[join][feature].values.iter().collect();
        let array = value::to_array(&values, &data_type);
        inputs
            .push(array.map_err(|text| Error::internal(anyhow::anyhow!("stored values: {text}")))?);
    }
    let mut request = Vec::new();
    for (name, data_type) in computation.on_demand.request_columns() {
        request.push(rows.column(name, data_type)?);
    }
    let arrays = computation
        .on_demand
        .evaluate(&inputs, &request, rows.len)?;
    let each = arrays.iter().map(|array| {
        let mut answers = Answers::default();
        for value in value::of_array(array).map_err(Error::internal)? {
            answers.push(value);
        }
        Ok(answers)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event: Option<i128>) -> Row {
        Row {
            event,
            created: None,
            origin: 0,
            layout: 0,
            values: Vec::new(),
        }
    }

    #[test]
    fn the_ttl_counts_at_the_time_of_the_read() {
        assert!(valid_at(row(Some(5)), 5, Some(3)).is_ok());
        assert!(valid_at(row(Some(5)), 8, Some(3)).is_ok(), "inclusive");
        let late = valid_at(row(Some(5)), 9, Some(3));
        assert_eq!(late.unwrap_err(), FeatureStatus::OutsideMaxAge);
        assert!(valid_at(row(Some(5)), 9, None).is_ok());
        assert_eq!(
            valid_at(row(Some(5)), 4, None).unwrap_err(),
            FeatureStatus::NotFound
        );
        assert!(
            valid_at(row(None), 4, Some(1)).is_ok(),
            "static rows are valid always"
        );
    }
}
