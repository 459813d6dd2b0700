//! The entity rows: received from the client or computed by a query, all of them in memory, within a limit.

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use arrow_flight::{
    FlightData,
    decode::{DecodedPayload, FlightDataDecoder},
    error::FlightError,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use crate::{
    error::{Error, Result},
    features::{
        definitions::names::listed,
        sources::{Session, is_timestamp, rows},
    },
};

/// The entity rows.
#[derive(Debug)]
pub(super) struct Entities {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    /// Bytes that they take, about.
    pub(super) bytes: usize,
}

impl Entities {
    /// Receives the table of a client.
    pub(super) async fn receive<S>(messages: S, limit: usize) -> Result<Self>
    where
        S: Stream<Item = Result<FlightData, tonic::Status>> + Send + 'static,
    {
        let mut bytes = 0;
        let counted = messages.map(move |message| {
            let message = message.map_err(|status| FlightError::Tonic(Box::new(status)))?;
            bytes += message.data_body.len();
            check_size(bytes, limit)
                .map_err(|error| FlightError::ExternalError(Box::new(error)))?;
            Ok(message)
        });
        let mut decoder = FlightDataDecoder::new(counted);
        let mut table = Self {
            schema: SchemaRef::new(Schema::empty()),
            batches: Vec::new(),
            bytes: 0,
        };
        let mut has_schema = false;
        while let Some(message) = decoder.try_next().await.map_err(receive_error)? {
            table.bytes += message.inner.data_body.len();
            match message.payload {
                DecodedPayload::Schema(schema) => {
                    if has_schema {
                        return Err(Error::invalid(
                            "entities",
                            "there is a second table in the stream",
                        ));
                    }
                    has_schema = true;
                    table.schema = schema;
                }
                DecodedPayload::RecordBatch(batch) if batch.num_rows() > 0 => {
                    table.batches.push(batch);
                }
                DecodedPayload::RecordBatch(_) | DecodedPayload::None => {}
            }
        }
        if !has_schema {
            let text = "there is no entity table; send one, or give a window or entity_sql";
            return Err(Error::invalid("entities", text));
        }
        Ok(table)
    }

    /// Runs a query for the rows.
    pub(super) async fn query(session: &mut Session, sql: &str, limit: usize) -> Result<Self> {
        const WHAT: &str = "the entity query";
        let table = session
            .query(WHAT, sql)
            .await
            .map_err(|error| error.in_field("entity_sql"))?;
        let schema = SchemaRef::new(table.schema().as_arrow().clone());
        let mut rows = rows(WHAT, table).await?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = rows.try_next().await? {
            bytes += batch.get_array_memory_size();
            check_size(bytes, limit)?;
            if batch.num_rows() > 0 {
                batches.push(batch.with_schema(schema.clone()).map_err(Error::internal)?);
            }
        }
        Ok(Self {
            schema,
            batches,
            bytes,
        })
    }

    /// Checks the column that tells the time of each row.
    pub(super) fn check_timestamp(&self, column: &str) -> Result<()> {
        match self.schema.field_with_name(column) {
            Err(_) => {
                let columns = self
                    .schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str());
                let text = format!(
                    "the entity table has no column `{column}`; its columns are {}",
                    listed(columns)
                );
                Err(Error::invalid("timestamp_column", text))
            }
            Ok(field)
                if !is_timestamp(field.data_type())
                    && *field.data_type() != arrow::datatypes::DataType::Null =>
            {
                let text = format!(
                    "column `{column}` of the entity table is {}, which is no timestamp; convert it to one",
                    field.data_type()
                );
                Err(Error::invalid("timestamp_column", text))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Rows in all.
    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

fn check_size(bytes: usize, limit: usize) -> Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    let text = format!(
        "the entity table has more than {limit} bytes; ask for fewer rows or columns at a time"
    );
    Err(Error::exhausted("QUERY_MEMORY", text))
}

fn receive_error(error: FlightError) -> Error {
    match error {
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::invalid("entities", error.to_string()),
        },
        FlightError::Tonic(status) if status.code() == tonic::Code::OutOfRange => {
            let text = format!("a message is too large: {}", status.message());
            Error::exhausted("MESSAGE_TOO_LARGE", text)
        }
        // The client broke off; nobody reads this.
        FlightError::Tonic(status) => Error::invalid("entities", status.message()),
        other => Error::invalid(
            "entities",
            format!("the entity table cannot be read: {other}"),
        ),
    }
}
