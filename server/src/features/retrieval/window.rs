//! Retrieval without entity rows: the rows of one view whose event time lies in a window.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::prelude::ident;
use futures::{Stream, StreamExt as _};

use crate::{
    error::{Error, Result},
    features::{
        instant::Window,
        scan::{self, read_error},
        selection::{Selection, Value},
        sources::{Rows, Session, rows},
    },
};

/// The rows of a view, as they come out of its source.
pub(super) struct WindowRows {
    schema: SchemaRef,
    rows: Rows,
}

/// Begins to read: the keys, the event time, the features.
pub(super) async fn open(
    session: &mut Session,
    selection: &Selection,
    window: Window,
) -> Result<WindowRows> {
    let [join] = selection.joins.as_slice() else {
        let text = "a window gives the rows of one view; name features of one view only";
        return Err(Error::invalid("features", text));
    };
    if !selection.computed.is_empty() {
        let text = "a window gives the rows of one view; on-demand features need entity rows";
        return Err(Error::invalid("features", text));
    }
    let view = join.view.definition.name.clone();
    let scan = scan::open(session, &join.view, &join.features).await?;
    let scan = scan.within(window)?;
    let mut columns: Vec<(String, String)> = Vec::new();
    for column in scan.side.keys.iter().chain(&scan.side.event_timestamp) {
        columns.push((column.clone(), column.clone()));
    }
    for column in &selection.columns {
        let Value::Joined { feature, .. } = column.value else {
            continue; // there are none
        };
        if columns.iter().any(|(_, name)| name == &column.name) {
            let text = format!(
                "`{}` is a key or the timestamp of `{view}` too; ask for full names",
                column.name
            );
            return Err(Error::invalid("features", text));
        }
        columns.push((join.features[feature].clone(), column.name.clone()));
    }
    let selected = columns.iter().map(|(from, to)| ident(from).alias(to));
    let table = scan
        .table
        .select(selected.collect::<Vec<_>>())
        .map_err(|error| read_error(&view, &error))?;
    let schema = Arc::new(table.schema().as_arrow().clone());
    let what = format!("feature view `{view}`");
    Ok(WindowRows {
        rows: rows(&what, table).await?,
        schema,
    })
}

impl WindowRows {
    /// The columns.
    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The rows.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<RecordBatch>> + Send {
        let schema = self.schema;
        self.rows
            .map(move |batch| batch?.with_schema(schema.clone()).map_err(Error::internal))
    }
}
