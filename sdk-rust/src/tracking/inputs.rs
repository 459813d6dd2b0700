//! Inputs of runs: the data sets that they read.

use mlplat_proto::tracking::v1 as pb;

use super::{ActiveRun, Tracking, checked_run_id, tracking};
use crate::{
    call::rpc,
    error::{Error, Result},
};

/// A data set that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DatasetInput {
    /// Name.
    pub name: String,
    /// Digest of the content; the same name with another digest is another version.
    pub digest: String,
    /// Where it came from: a URI, a path, or an identifier.
    pub source: String,
    /// Kind of the source, e.g. `local`, `s3`, `hugging_face`.
    pub source_type: String,
    /// What it was used for, e.g. `training`.
    pub context: String,
    /// Columns, where known: name and type.
    pub fields: Vec<(String, String)>,
    /// Number of rows, where known.
    pub rows: Option<u64>,
}

impl DatasetInput {
    /// A data set of this name and digest.
    pub fn new(name: impl Into<String>, digest: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            digest: digest.into(),
            ..Self::default()
        }
    }

    /// Where it came from, and of which kind that is.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>, source_type: impl Into<String>) -> Self {
        self.source = source.into();
        self.source_type = source_type.into();
        self
    }

    /// What it was used for.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = context.into();
        self
    }

    /// Adds a column.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, of_type: impl Into<String>) -> Self {
        self.fields.push((name.into(), of_type.into()));
        self
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }
}

impl From<DatasetInput> for pb::DatasetInput {
    fn from(input: DatasetInput) -> Self {
        Self {
            name: input.name,
            digest: input.digest,
            source: input.source,
            source_type: input.source_type,
            context: input.context,
            fields: input
                .fields
                .into_iter()
                .map(|(name, r#type)| pb::DatasetField { name, r#type })
                .collect(),
            rows: input.rows,
        }
    }
}

impl From<pb::DatasetInput> for DatasetInput {
    fn from(input: pb::DatasetInput) -> Self {
        Self {
            name: input.name,
            digest: input.digest,
            source: input.source,
            source_type: input.source_type,
            context: input.context,
            fields: input
                .fields
                .into_iter()
                .map(|field| (field.name, field.r#type))
                .collect(),
            rows: input.rows,
        }
    }
}

impl Tracking {
    /// Notes which data sets a run read; they become inputs of the run in the lineage. The same name, digest and context
    /// again replaces what was said of it. Says how many the run did not have before.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no such run,
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for what is too long.
    pub async fn log_inputs(
        &self,
        run_id: &str,
        inputs: impl IntoIterator<Item = DatasetInput>,
    ) -> Result<u64> {
        let request = self.inputs_request(run_id, inputs)?;
        let answer = rpc!(self.client, Repeatable, tracking.log_inputs, request)?;
        Ok(answer.created)
    }

    fn inputs_request(
        &self,
        run_id: &str,
        inputs: impl IntoIterator<Item = DatasetInput>,
    ) -> Result<pb::LogInputsRequest> {
        Ok(pb::LogInputsRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            inputs: inputs.into_iter().map(Into::into).collect(),
        })
    }
}

impl ActiveRun {
    /// Notes data sets that the run read in the journal, like all that is logged: returns at once, whether there is a server or not.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the id of the run is none.
    pub fn keep_inputs(&self, inputs: impl IntoIterator<Item = DatasetInput>) -> Result<()> {
        let request = self.client().tracking().inputs_request(self.id(), inputs)?;
        self.put_inputs(&request);
        Ok(())
    }

    /// As [`Tracking::log_inputs`]; what was logged before is delivered first. While the server cannot be reached they are kept
    /// in the journal, like all that is logged.
    ///
    /// # Errors
    /// As [`Tracking::log_inputs`], but for [`Error::Unavailable`].
    pub async fn log_inputs(&self, inputs: impl IntoIterator<Item = DatasetInput>) -> Result<()> {
        let client = self.client();
        let request = client.tracking().inputs_request(self.id(), inputs)?;
        let sent = rpc!(client, Repeatable, tracking.log_inputs, request.clone());
        match sent {
            Err(Error::Unavailable(_) | Error::DeadlineExceeded(_)) => self.put_inputs(&request),
            // It is known to its own process only, so far.
            Err(error @ Error::NotFound(_)) if error.reason() == "RUN_NOT_FOUND" => {
                self.put_inputs(&request);
            }
            sent => {
                sent?;
            }
        }
        Ok(())
    }
}
