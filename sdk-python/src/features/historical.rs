//! Historical retrieval.

use arrow::{
    array::{RecordBatch, RecordBatchReader},
    datatypes::SchemaRef,
    error::ArrowError,
};
use mlplat::features::{Entities, HistoricalQuery, KnownAt, SourceSnapshot, TrainingSet};
use pyo3::prelude::*;
use pyo3_arrow::input::AnyRecordBatch;

use super::definitions::{Alias, Wanted, spelled_out};
use crate::{call::Call, client::Client, progress::Progress, table::Batches, time::from_nanos};

/// What the sources were when they were read; gives the same result when it is given to a later retrieval.
#[pyclass(frozen, module = "mlplat")]
#[derive(Clone)]
pub(super) struct Snapshots(Vec<SourceSnapshot>);

#[pymethods]
impl Snapshots {
    /// Source -> its files with their sizes in bytes.
    #[getter]
    fn files(&self) -> Vec<(String, Vec<(String, u64)>)> {
        let source = |s: &SourceSnapshot| {
            let files = s.files.iter().map(|f| (f.path.clone(), f.size_bytes));
            (s.source.clone(), files.collect())
        };
        self.0.iter().map(source).collect()
    }

    fn __repr__(&self) -> String {
        let source = |s: &SourceSnapshot| format!("{}: {} files", s.source, s.files.len());
        format!(
            "<Snapshots {}>",
            self.0.iter().map(source).collect::<Vec<_>>().join(", ")
        )
    }
}

/// A result that is complete; `TrainingSet` of the package is made of it.
#[pyclass(frozen, module = "mlplat._native")]
pub(super) struct Retrieved(TrainingSet);

#[pymethods]
impl Retrieved {
    #[getter]
    fn table(&self) -> Batches {
        Batches {
            schema: self.0.schema.clone(),
            batches: self.0.batches.clone(),
        }
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn retrieval_id(&self) -> &str {
        &self.0.retrieval_id
    }

    #[getter]
    fn snapshots(&self) -> Snapshots {
        Snapshots(self.0.snapshots.clone())
    }
}

/// What a retrieval asks for, as Python describes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct Query<'py> {
    features: Vec<Wanted>,
    aliases: Vec<Alias>,
    timestamp: String,
    known_at_entity: bool,
    full_names: bool,
    start: Option<i128>,
    end: Option<i128>,
    sql: String,
    run_id: String,
    name: String,
    snapshots: Option<Bound<'py, Snapshots>>,
}

/// Features as they were known at the time of each entity row.
#[pyfunction]
pub(super) fn historical(
    py: Python<'_>,
    client: &Client,
    query: Query<'_>,
    entities: Option<AnyRecordBatch>,
) -> PyResult<Call> {
    let features = client.get(py)?.features();
    let progress = Progress::default();
    let entities = match entities {
        None => Entities::None,
        Some(table) => Entities::Reader(Box::new(Counted {
            inner: table.into_reader()?,
            rows: 0,
            progress: progress.clone(),
        })),
    };
    let known_at = if query.known_at_entity {
        KnownAt::Entity
    } else {
        KnownAt::Event
    };
    let mut rest = HistoricalQuery::new(Vec::<String>::new())
        .timestamp(query.timestamp)
        .known_at(known_at)
        .full_names(query.full_names)
        .sql(query.sql)
        .run(query.run_id)
        .name(query.name);
    for alias in query.aliases {
        rest = rest.alias(alias.into());
    }
    if query.start.is_some() || query.end.is_some() {
        rest = rest.window(query.start.map(from_nanos), query.end.map(from_nanos));
    }
    if let Some(snapshots) = query.snapshots {
        rest = rest.snapshots(snapshots.get().0.clone());
    }
    let (wanted, report) = (query.features, progress.clone());
    let work = async move {
        let names = spelled_out(&features, wanted).await?;
        let stream = features.historical(rest.features(names), entities).await?;
        let told = move |rows| report.set(format!("historical features: {rows} rows received"));
        Ok(Retrieved(stream.collect_with(told).await?))
    };
    Ok(Call::new(work).showing(progress))
}

/// A reader that says how many rows went through it.
struct Counted {
    inner: Box<dyn RecordBatchReader + Send>,
    rows: usize,
    progress: Progress,
}

impl Iterator for Counted {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.inner.next()?;
        if let Ok(batch) = &batch {
            self.rows += batch.num_rows();
            self.progress.set(format!(
                "historical features: {} entity rows sent",
                self.rows
            ));
        }
        Some(batch)
    }
}

impl RecordBatchReader for Counted {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}
