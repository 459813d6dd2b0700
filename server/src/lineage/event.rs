//! OpenLineage run events: built here, and turned into the JSON text that is stored and sent.
//!
//! Invariant: what [`RunEvent::to_json`] gives is valid by OpenLineage 2-0-2 and by the published versions of the facets,
//! and depends on the event alone. Pure.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::naming::{Dataset, Job};
use crate::clock::Timestamp;

const PRODUCER: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/tree/v",
    env!("CARGO_PKG_VERSION"),
    "/server"
);
const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";

/// What happened to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It began.
    Start,
    /// More became known while it runs.
    Running,
    /// It ended well.
    Complete,
    /// It ended by an error.
    Fail,
    /// It was stopped from outside.
    Abort,
    /// More became known, whatever its state is.
    Other,
}

impl EventType {
    /// As OpenLineage spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Running => "RUNNING",
            Self::Complete => "COMPLETE",
            Self::Fail => "FAIL",
            Self::Abort => "ABORT",
            Self::Other => "OTHER",
        }
    }

    /// Where an event of this type at this time stands among those of its run: the state of the run is that of the
    /// greatest. An end beats what is not one, and OTHER, which says nothing of the state, beats nothing; then the
    /// later one wins. One number, so that SQL can compare it and events may arrive in any order.
    pub(super) fn state_order(self, at: Timestamp) -> i64 {
        let (class, rank) = match self {
            Self::Other => (0, 0),
            Self::Start => (1, 0),
            Self::Running => (1, 1),
            Self::Complete => (2, 0),
            Self::Fail => (2, 1),
            Self::Abort => (2, 2),
        };
        // 58 bits of microseconds reach beyond the year 9999.
        let micros = at.micros().clamp(0, (1 << 58) - 1);
        (class << 61) | (micros << 3) | rank
    }
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    pub(super) event_type: EventType,
    pub(super) run_id: Uuid,
    pub(super) job: Job,
    pub(super) at: Timestamp,
    pub(super) parent: Option<(Uuid, Job)>,
    parameters: Vec<(String, String)>,
    error_message: Option<String>,
    pub(super) inputs: Vec<Dataset>,
    pub(super) outputs: Vec<Dataset>,
}

impl RunEvent {
    /// An event of this run of this job.
    pub fn new(event_type: EventType, run_id: Uuid, job: Job, at: Timestamp) -> Self {
        Self {
            event_type,
            run_id,
            job,
            at,
            parent: None,
            parameters: Vec::new(),
            error_message: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The run that caused this one.
    #[must_use]
    pub fn parent(mut self, run_id: Uuid, job: &Job) -> Self {
        self.parent = Some((run_id, job.clone()));
        self
    }

    /// What the run was called with.
    #[must_use]
    pub fn parameters(mut self, parameters: impl IntoIterator<Item = (String, String)>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Why the run failed.
    #[must_use]
    pub fn error_message(mut self, message: &str) -> Self {
        self.error_message = Some(message.to_owned());
        self
    }

    /// What was read.
    #[must_use]
    pub fn inputs(mut self, datasets: Vec<Dataset>) -> Self {
        self.inputs.extend(datasets);
        self
    }

    /// What was written.
    #[must_use]
    pub fn outputs(mut self, datasets: Vec<Dataset>) -> Self {
        self.outputs.extend(datasets);
        self
    }

    /// The event as OpenLineage JSON.
    pub fn to_json(&self) -> String {
        let event = json!({
            "eventTime": self.at.rfc3339(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "eventType": self.event_type.as_str(),
            "run": { "runId": self.run_id, "facets": self.run_facets() },
            "job": {
                "namespace": self.job.namespace,
                "name": self.job.name,
                "facets": {
                    "jobType": facet("JobTypeJobFacet", "2-0-4", json!({
                        "processingType": "BATCH",
                        "integration": "MLPLAT",
                        "jobType": self.job.job_type,
                    })),
                },
            },
            "inputs": self.inputs.iter().map(dataset).collect::<Vec<_>>(),
            "outputs": self.outputs.iter().map(dataset).collect::<Vec<_>>(),
        });
        event.to_string()
    }

    fn run_facets(&self) -> Value {
        let mut facets = Map::new();
        let engine = json!({ "version": env!("CARGO_PKG_VERSION"), "name": "mlplat" });
        facets.insert(
            "processing_engine".to_owned(),
            facet("ProcessingEngineRunFacet", "1-1-1", engine),
        );
        if let Some((run_id, job)) = &self.parent {
            let parent = json!({
                "run": { "runId": run_id },
                "job": { "namespace": job.namespace, "name": job.name },
            });
            facets.insert(
                "parent".to_owned(),
                facet("ParentRunFacet", "1-2-0", parent),
            );
        }
        if !self.parameters.is_empty() {
            let parameters: Vec<Value> = self
                .parameters
                .iter()
                .map(|(key, value)| json!({ "key": key, "value": value }))
                .collect();
            facets.insert(
                "executionParameters".to_owned(),
                facet(
                    "ExecutionParametersRunFacet",
                    "1-0-0",
                    json!({ "parameters": parameters }),
                ),
            );
        }
        if let Some(message) = &self.error_message {
            // The facet wants a language, and the server is not told in which one the client is written.
            let error = json!({ "message": message, "programmingLanguage": "UNKNOWN" });
            facets.insert(
                "errorMessage".to_owned(),
                facet("ErrorMessageRunFacet", "1-0-1", error),
            );
        }
        Value::Object(facets)
    }
}

fn dataset(dataset: &Dataset) -> Value {
    let mut facets = Map::new();
    facets.insert(
        "datasetType".to_owned(),
        facet(
            "DatasetTypeDatasetFacet",
            "1-0-1",
            json!({ "datasetType": dataset.dataset_type }),
        ),
    );
    if !dataset.version.is_empty() {
        facets.insert(
            "version".to_owned(),
            facet(
                "DatasetVersionDatasetFacet",
                "1-0-1",
                json!({ "datasetVersion": dataset.version }),
            ),
        );
    }
    if let Some((namespace, name)) = &dataset.symlink {
        let identifier = json!({ "namespace": namespace, "name": name, "type": "SOURCE" });
        facets.insert(
            "symlinks".to_owned(),
            facet(
                "SymlinksDatasetFacet",
                "1-0-1",
                json!({ "identifiers": [identifier] }),
            ),
        );
    }
    if !dataset.fields.is_empty() {
        let fields: Vec<Value> = dataset
            .fields
            .iter()
            .map(|[name, of_type]| json!({ "name": name, "type": of_type }))
            .collect();
        facets.insert(
            "schema".to_owned(),
            facet("SchemaDatasetFacet", "1-1-1", json!({ "fields": fields })),
        );
    }
    json!({ "namespace": dataset.namespace, "name": dataset.name, "facets": facets })
}

/// A facet: its fields and, first, who made it by which schema.
fn facet(schema: &str, version: &str, fields: Value) -> Value {
    let mut facet = Map::new();
    facet.insert("_producer".to_owned(), PRODUCER.into());
    facet.insert(
        "_schemaURL".to_owned(),
        format!("https://openlineage.io/spec/facets/{version}/{schema}.json#/$defs/{schema}")
            .into(),
    );
    if let Value::Object(fields) = fields {
        facet.extend(fields);
    }
    Value::Object(facet)
}

#[cfg(test)]
mod tests {
    use super::super::naming::Names;
    use super::*;

    /// An event that uses every facet.
    fn full() -> RunEvent {
        let names = Names::new("laptop", "default");
        let run = Uuid::from_u128(0x0194_1f29_7c00_7000_8000_0000_dead_beef);
        let weather = names
            .file_source("/data/weather.parquet", Some("d1"))
            .also_known_as(&names.sql_source("weather", None))
            .with_schema(vec![["temp".to_owned(), "double".to_owned()]]);
        RunEvent::new(
            EventType::Fail,
            run,
            names.experiment("delays"),
            Timestamp(1_735_732_800_000_001),
        )
        .parent(Uuid::from_u128(9), &names.experiment("sweep"))
        .parameters([("depth".to_owned(), "3".to_owned())])
        .error_message("out of \"memory\"\n")
        .inputs(vec![names.feature_view("weather", 2), weather])
        .outputs(vec![
            names.artifact(run, "model.pkl", "9f86"),
            names.online("weather"),
        ])
    }

    #[test]
    fn the_event_says_what_was_built() {
        let event: Value = serde_json::from_str(&full().to_json()).unwrap();
        assert_eq!(event["eventTime"], "2025-01-01T12:00:00.000001Z");
        assert_eq!(event["eventType"], "FAIL");
        assert_eq!(
            event["run"]["runId"],
            "01941f29-7c00-7000-8000-0000deadbeef"
        );
        assert_eq!(event["job"]["name"], "experiments/delays");
        let facets = &event["run"]["facets"];
        assert_eq!(facets["parent"]["job"]["name"], "experiments/sweep");
        assert_eq!(facets["executionParameters"]["parameters"][0]["value"], "3");
        assert_eq!(facets["errorMessage"]["message"], "out of \"memory\"\n");
        let inputs = &event["inputs"];
        assert_eq!(inputs[0]["facets"]["version"]["datasetVersion"], "2");
        assert_eq!(inputs[1]["namespace"], "file");
        assert_eq!(
            inputs[1]["facets"]["symlinks"]["identifiers"][0]["name"],
            "sources/weather"
        );
        assert_eq!(inputs[1]["facets"]["schema"]["fields"][0]["name"], "temp");
        assert!(event["outputs"][1]["facets"].get("version").is_none());
    }

    #[test]
    fn every_facet_says_who_made_it_and_by_which_schema() {
        let event: Value = serde_json::from_str(&full().to_json()).unwrap();
        let all = [
            &event["run"]["facets"],
            &event["job"]["facets"],
            &event["inputs"][1]["facets"],
            &event["outputs"][0]["facets"],
        ];
        let facets: Vec<&Value> = all
            .iter()
            .flat_map(|facets| facets.as_object().unwrap().values())
            .collect();
        assert_eq!(facets.len(), 4 + 1 + 4 + 2);
        for facet in facets {
            assert_eq!(facet["_producer"], PRODUCER);
            let schema = facet["_schemaURL"].as_str().unwrap();
            assert!(
                schema.starts_with("https://openlineage.io/spec/facets/"),
                "{schema}"
            );
        }
    }

    #[test]
    fn an_end_beats_what_is_not_one_and_later_beats_earlier() {
        use EventType::{Abort, Complete, Fail, Other, Running, Start};
        let far = Timestamp(253_402_300_799_999_999);
        let rising = [
            Other.state_order(far),
            Start.state_order(Timestamp(-5)),
            Start.state_order(Timestamp(10)),
            Running.state_order(Timestamp(10)),
            Start.state_order(Timestamp(11)),
            Running.state_order(far),
            Complete.state_order(Timestamp(-5)),
            Complete.state_order(Timestamp(10)),
            Fail.state_order(Timestamp(10)),
            Abort.state_order(Timestamp(10)),
            Complete.state_order(Timestamp(11)),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b), "{rising:?}");
    }
}
