//! The two sides of the join as the caller names them, and their columns once found.
//!
//! Names and types are checked once, against the declared schemas; every batch is then checked only for being what was
//! declared. This file must not know how the join works.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Fields, SchemaRef};

use super::{AsOfError, Result, time};

/// How many column names an error message lists.
const NAMES_IN_MESSAGE: usize = 30;

/// The entity rows: for each of them the join yields one row.
#[derive(Debug, Clone)]
pub struct EntitySide<'a> {
    /// The schema of all batches.
    pub schema: SchemaRef,
    /// The rows; their order over all batches is the order of the result.
    pub batches: &'a [RecordBatch],
    /// The columns that stand for the view's join keys, in the order of [`FeatureSide::keys`].
    pub keys: Vec<String>,
    /// The column with the time at which each row wants to know its features.
    pub timestamp: String,
}

/// The feature rows of one view: what their columns are, not the rows themselves.
#[derive(Debug, Clone)]
pub struct FeatureSide {
    /// The view's name, for messages.
    pub view: String,
    /// The schema of the batches that will be pushed, after field mapping.
    pub schema: SchemaRef,
    /// The join keys; none for a view without entities, whose rows apply to every entity row.
    pub keys: Vec<String>,
    /// When a row became valid; `None` for a static view, whose rows have always been.
    pub event_timestamp: Option<String>,
    /// When a row was written, if that is recorded.
    pub created_timestamp: Option<String>,
    /// The columns to join.
    pub features: Vec<String>,
}

/// A schema with a name for messages.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) schema: SchemaRef,
}

impl Table {
    /// The position of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        let fields = self.schema.fields();
        let mut found = fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name() == name)
            .map(|(index, _)| index);
        let Some(index) = found.next() else {
            return Err(AsOfError::MissingColumn {
                table: self.name.clone(),
                column: name.to_owned(),
                available: names(fields),
            });
        };
        if found.next().is_some() {
            return Err(AsOfError::AmbiguousColumn {
                table: self.name.clone(),
                column: name.to_owned(),
            });
        }
        Ok(index)
    }

    /// The positions of several columns.
    pub(super) fn columns(&self, names: &[String]) -> Result<Vec<usize>> {
        names.iter().map(|name| self.column(name)).collect()
    }

    /// The position of a column that holds instants.
    pub(super) fn timestamp(&self, name: &str) -> Result<usize> {
        let index = self.column(name)?;
        let data_type = self.data_type(index);
        if !time::is_instant(data_type) {
            return Err(AsOfError::TimestampType {
                table: self.name.clone(),
                column: name.to_owned(),
                data_type: data_type.clone(),
            });
        }
        Ok(index)
    }

    /// The type of the column at `index`.
    pub(super) fn data_type(&self, index: usize) -> &DataType {
        self.schema.field(index).data_type()
    }

    /// Whether `batch` has the declared columns at `used`; the others are not looked at.
    pub(super) fn check(
        &self,
        batch: &RecordBatch,
        used: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        for index in used {
            let expected = self.schema.field(index);
            let actual = batch.schema_ref().fields().get(index);
            if actual.is_none_or(|field| {
                field.name() != expected.name() || field.data_type() != expected.data_type()
            }) {
                return Err(AsOfError::BatchSchema {
                    table: self.name.clone(),
                    expected: format!(
                        "column `{}` of type {}",
                        expected.name(),
                        expected.data_type()
                    ),
                    actual: actual.map_or_else(
                        || "no column".to_owned(),
                        |field| format!("column `{}` of type {}", field.name(), field.data_type()),
                    ),
                });
            }
        }
        Ok(())
    }
}

fn names(fields: &Fields) -> String {
    let mut text = fields
        .iter()
        .take(NAMES_IN_MESSAGE)
        .map(|f| format!("`{}`", f.name()))
        .collect::<Vec<_>>()
        .join(", ");
    if fields.len() > NAMES_IN_MESSAGE {
        text.push_str(&format!(" and {} more", fields.len() - NAMES_IN_MESSAGE));
    }
    if text.is_empty() {
        text.push_str("none");
    }
    text
}

/// The entity side as a table.
pub(super) fn entity_table(side: &EntitySide<'_>) -> Table {
    Table {
        name: "the entity table".to_owned(),
        schema: side.schema.clone(),
    }
}

/// A [`FeatureSide`] whose columns are known to exist and to be of usable types.
#[derive(Debug)]
pub(super) struct FeatureColumns {
    pub(super) view: String,
    pub(super) table: Table,
    pub(super) keys: Vec<usize>,
    pub(super) event: Option<usize>,
    pub(super) created: Option<usize>,
    pub(super) features: Vec<usize>,
}

impl FeatureColumns {
    pub(super) fn resolve(side: &FeatureSide) -> Result<Self> {
        let table = Table {
            name: format!("feature view `{}`", side.view),
            schema: side.schema.clone(),
        };
        Ok(Self {
            view: side.view.clone(),
            keys: table.columns(&side.keys)?,
            event: side
                .event_timestamp
                .as_deref()
                .map(|name| table.timestamp(name))
                .transpose()?,
            created: side
                .created_timestamp
                .as_deref()
                .map(|name| table.timestamp(name))
                .transpose()?,
            features: table.columns(&side.features)?,
            table,
        })
    }

    /// Whether `batch` is what was declared.
    pub(super) fn check(&self, batch: &RecordBatch) -> Result<()> {
        let used = self
            .keys
            .iter()
            .chain(&self.event)
            .chain(&self.created)
            .chain(&self.features);
        self.table.check(batch, used.copied())
    }

    /// The event and created timestamps of every row; [`time::ALWAYS`] in a static view, [`time::ABSENT`] where null.
    pub(super) fn instants(&self, batch: &RecordBatch) -> (Vec<i128>, Vec<i128>) {
        let read = |column: Option<usize>, otherwise: i128| match column {
            Some(index) => {
                let mut out = Vec::with_capacity(batch.num_rows());
                time::read(batch.column(index).as_ref(), &mut out);
                out
            }
            None => vec![otherwise; batch.num_rows()],
        };
        (
            read(self.event, time::ALWAYS),
            read(self.created, time::ABSENT),
        )
    }
}

/// The columns of `batch` at `indices`.
pub(super) fn project(batch: &RecordBatch, indices: &[usize]) -> Vec<ArrayRef> {
    indices
        .iter()
        .map(|&index| batch.column(index).clone())
        .collect()
}
