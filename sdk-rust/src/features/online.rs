//! Online retrieval: the features of some keys, now.

use std::{str::FromStr as _, sync::Arc, time::SystemTime};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema},
};
use mlplat_proto::features::v1 as pb;

use super::{Features, ViewAlias, feature_store};
use crate::{
    call::rpc,
    convert::timestamp,
    error::{Error, Result},
    value::{Value, column},
};

/// Which features of which keys.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct OnlineQuery {
    features: Vec<String>,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    at: Option<SystemTime>,
    full_names: bool,
    aliases: Vec<ViewAlias>,
}

impl OnlineQuery {
    /// Features as `view:feature`, or the name of one feature service.
    pub fn new<S: Into<String>>(features: impl IntoIterator<Item = S>) -> Self {
        Self {
            features: features.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds features, as in [`OnlineQuery::new`].
    pub fn features<S: Into<String>>(mut self, features: impl IntoIterator<Item = S>) -> Self {
        self.features.extend(features.into_iter().map(Into::into));
        self
    }

    /// Names of the key and request columns, in the order in which rows have them.
    pub fn columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.columns = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a row: one value per column. At most 10,000 in a query.
    pub fn row<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.rows.push(values.into_iter().map(Into::into).collect());
        self
    }

    /// The time at which the TTL is measured; default now.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.at = Some(time);
        self
    }

    /// Whether result columns are named `view__feature`; default false.
    pub fn full_names(mut self, full_names: bool) -> Self {
        self.full_names = full_names;
        self
    }

    /// Adds a view under other keys.
    pub fn alias(mut self, alias: ViewAlias) -> Self {
        self.aliases.push(alias);
        self
    }
}

/// Why an online value is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FeatureStatus {
    /// There is a value.
    Present,
    /// The newest row holds null.
    NullValue,
    /// There is no row for the key.
    NotFound,
    /// The newest row is older than the TTL.
    OutsideMaxAge,
}

impl FeatureStatus {
    /// Upper-case name: `PRESENT`, `NULL_VALUE`, `NOT_FOUND`, `OUTSIDE_MAX_AGE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::NullValue => "NULL_VALUE",
            Self::NotFound => "NOT_FOUND",
            Self::OutsideMaxAge => "OUTSIDE_MAX_AGE",
        }
    }

    fn from_proto(status: i32) -> Result<Self> {
        match pb::FeatureStatus::try_from(status) {
            Ok(pb::FeatureStatus::Present) => Ok(Self::Present),
            Ok(pb::FeatureStatus::NullValue) => Ok(Self::NullValue),
            Ok(pb::FeatureStatus::NotFound) => Ok(Self::NotFound),
            Ok(pb::FeatureStatus::OutsideMaxAge) => Ok(Self::OutsideMaxAge),
            Ok(pb::FeatureStatus::Unspecified) | Err(_) => {
                Err(Error::protocol("known feature status"))
            }
        }
    }
}

/// One feature of all rows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OnlineFeature {
    /// Name of the result column.
    pub name: String,
    /// Arrow type of the feature, e.g. `Float64`.
    pub data_type: String,
    /// One value per row.
    pub values: Vec<Value>,
    /// One status per row.
    pub statuses: Vec<FeatureStatus>,
}

/// The answer: the columns of the query, then the features.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OnlineFeatures {
    /// Names of the key and request columns.
    pub columns: Vec<String>,
    /// The rows of the query, one value per column.
    pub rows: Vec<Vec<Value>>,
    /// The features, in the order asked for.
    pub features: Vec<OnlineFeature>,
}

impl OnlineFeatures {
    /// Keys and features as one table; statuses are left out. Where a feature has the name of a column of the query, the
    /// feature is what the table has.
    ///
    /// # Errors
    /// [`Error::Arrow`] when the values of a column do not have one type.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let mut add = |name: &str, array: ArrayRef| {
            fields.push(Field::new(name, array.data_type().clone(), true));
            arrays.push(array);
        };
        for (at, name) in self.columns.iter().enumerate() {
            if self.features.iter().all(|feature| &feature.name != name) {
                let values: Vec<Value> = self.rows.iter().map(|row| row[at].clone()).collect();
                add(name, column(&values, None)?);
            }
        }
        for feature in &self.features {
            // A type that this version cannot read leaves the values their natural one.
            let data_type = DataType::from_str(&feature.data_type).ok();
            add(&feature.name, column(&feature.values, data_type.as_ref())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        Ok(RecordBatch::try_new_with_options(
            Arc::new(Schema::new(fields)),
            arrays,
            &options,
        )?)
    }
}

impl Features {
    /// The features of some keys from the online store, each with its status.
    ///
    /// # Errors
    /// [`Error::NotFound`] for unknown views or features, [`Error::InvalidArgument`] for missing key or request columns,
    /// [`Error::Misuse`] for a row that does not have one value per column.
    pub async fn online(&self, query: OnlineQuery) -> Result<OnlineFeatures> {
        if let Some((at, row)) = query
            .rows
            .iter()
            .enumerate()
            .find(|(_, row)| row.len() != query.columns.len())
        {
            let (has, wants) = (row.len(), query.columns.len());
            return Err(Error::misuse(format!(
                "row {at} has {has} values for {wants} columns"
            )));
        }
        let mut rows = Vec::with_capacity(query.rows.len());
        for row in &query.rows {
            let values = row
                .iter()
                .cloned()
                .map(Value::into_proto)
                .collect::<Result<_>>()?;
            rows.push(pb::EntityRow { values });
        }
        let request = pb::GetOnlineFeaturesRequest {
            project: self.project(),
            features: query.features,
            columns: query.columns.clone(),
            rows,
            at: query.at.map(timestamp),
            full_names: query.full_names,
            aliases: query
                .aliases
                .into_iter()
                .map(ViewAlias::into_proto)
                .collect(),
        };
        let answer = rpc!(
            self.client,
            Repeatable,
            feature_store.get_online_features,
            request
        )?;
        let wanted = query.rows.len();
        let features = answer
            .features
            .into_iter()
            .map(|feature| feature_of(feature, wanted))
            .collect::<Result<_>>()?;
        Ok(OnlineFeatures {
            columns: query.columns,
            rows: query.rows,
            features,
        })
    }
}

fn feature_of(feature: pb::OnlineFeature, rows: usize) -> Result<OnlineFeature> {
    if feature.values.len() != rows || feature.statuses.len() != rows {
        return Err(Error::protocol("value and status of every row"));
    }
    Ok(OnlineFeature {
        name: feature.name,
        data_type: feature.data_type,
        values: feature
            .values
            .into_iter()
            .map(Value::from_proto)
            .collect::<Result<_>>()?,
        statuses: feature
            .statuses
            .into_iter()
            .map(FeatureStatus::from_proto)
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_features_become_one_table() {
        let online = OnlineFeatures {
            columns: vec!["origin".into(), "temp".into()],
            rows: vec![
                vec!["JFK".into(), 1_i64.into()],
                vec!["LGA".into(), 2_i64.into()],
            ],
            features: vec![OnlineFeature {
                name: "temp".into(),
                data_type: "Float32".into(),
                values: vec![Value::Float32(39.0), Value::Null],
                statuses: vec![FeatureStatus::Present, FeatureStatus::NotFound],
            }],
        };
        let batch = online.to_record_batch().unwrap();
        let fields: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect();
        assert_eq!(
            fields,
            [
                ("origin".to_owned(), DataType::Utf8),
                ("temp".to_owned(), DataType::Float32)
            ]
        );
        assert_eq!(batch.column(1).null_count(), 1);
    }

    #[test]
    fn an_answer_must_have_all_rows() {
        let feature = pb::OnlineFeature {
            statuses: vec![1],
            ..Default::default()
        };
        assert!(feature_of(feature, 1).is_err());
    }
}
