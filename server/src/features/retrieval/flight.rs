//! The Arrow Flight service: DoExchange is historical retrieval; the other calls of Flight are not offered.
//!
//! The answer begins at once, as a stream; all work, and whatever goes wrong with it, happens behind that stream, on the query
//! threads, and ends when the client goes.

use std::sync::Arc;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    flight_descriptor::DescriptorType, flight_service_server::FlightService,
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use mlplat_proto::features::v1 as pb;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    batches,
    entities::Entities,
    join::join_all,
    lineage::{Record, Retrieval},
    query::{EntityRows, Query},
    result::{ResultSet, check_columns},
    window,
};
use crate::{
    auth::{self, Caller, Scope},
    error::{Error, Result},
    features::{
        Features,
        definitions::{Catalog, store as definitions},
        runtime::TaskStream,
        selection::Selection,
        sources::Session,
        store,
    },
    lineage::Names,
};

/// Messages made ahead of the network.
const AHEAD: usize = 2;

/// The service.
#[derive(Debug, Clone)]
pub struct FeatureFlight {
    features: Arc<Features>,
}

impl FeatureFlight {
    /// The service over `features`.
    pub fn new(features: Arc<Features>) -> Self {
        Self { features }
    }

    async fn exchange(
        &self,
        caller: &Caller,
        mut messages: Streaming<FlightData>,
    ) -> Result<TaskStream<FlightData>, Status> {
        let Some(first) = messages.message().await? else {
            return Err(Error::invalid("descriptor", "the stream has no message").into());
        };
        let query = Query::parse(command(first.flight_descriptor.as_ref())?)?;
        let app = &self.features.app;
        let action = auth::Action::ReadFeatures;
        let scope = caller.authorize(app, action, &query.project).await?;
        if let Some(run_id) = query.run_id {
            store::experiment_of_run(app.db.read(), &scope, run_id).await?;
        }
        let catalog = definitions::load(app.db.read(), &scope).await?;
        let has_table = !first.data_header.is_empty();
        if has_table && query.rows != EntityRows::Table {
            let text = "give either an entity table, or a window or entity_sql in its place";
            return Err(Error::invalid("entities", text).into());
        }
        let selection = Selection::of(&catalog, &query.features, &query.aliases, query.full_names)?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let work = Work {
            features: self.features.clone(),
            scope,
            catalog: Arc::new(catalog),
            query,
            selection: Arc::new(selection),
            sender,
        };
        let messages = stream::once(async { Ok(first) }).chain(messages);
        let task = self.features.runtime.spawn(work.run(messages.boxed()));
        Ok(TaskStream::new(receiver, task))
    }
}

fn command(descriptor: Option<&FlightDescriptor>) -> Result<pb::HistoricalFeaturesQuery> {
    let command = descriptor.filter(|descriptor| descriptor.r#type() == DescriptorType::Cmd);
    let Some(command) = command else {
        let text = "the first message must have a descriptor of type CMD with an encoded HistoricalFeaturesQuery";
        return Err(Error::invalid("descriptor", text));
    };
    pb::HistoricalFeaturesQuery::decode(command.cmd.clone())
        .map_err(|error| Error::invalid("descriptor.cmd", error.to_string()))
}

/// A retrieval with everything it needs.
struct Work {
    features: Arc<Features>,
    scope: Scope,
    catalog: Arc<Catalog>,
    query: Query,
    selection: Arc<Selection>,
    sender: mpsc::Sender<FlightData>,
}

impl Work {
    async fn run(self, messages: BoxStream<'static, Result<FlightData, Status>>) -> Result<()> {
        let limit = self.features.app.config.limits.query_memory_bytes;
        let entities = match self.query.rows {
            // Received before it is our turn: a slow client must not keep others waiting.
            EntityRows::Table => {
                let receive = Entities::receive(messages, limit);
                Some(self.features.in_time(receive).await?)
            }
            _ => None,
        };
        let features = self.features.clone();
        features.in_turn(self.answer(entities)).await
    }

    async fn answer(self, entities: Option<Entities>) -> Result<()> {
        let app = &self.features.app;
        let memory = app.config.limits.query_memory_bytes;
        let started_at = app.now();
        let id = Uuid::now_v7();
        let retrieval = Retrieval {
            id,
            training_set: self
                .query
                .name
                .clone()
                .unwrap_or_else(|| format!("retrieval-{id}")),
            run_id: self.query.run_id,
            started_at,
        };
        let names = Names::new(&app.instance, self.scope.project());
        let mut session = self.features.session(self.catalog.clone())?;
        let (rows, record) = if let EntityRows::Window(window) = self.query.rows {
            let rows = window::open(&mut session, &self.selection, window).await?;
            session.pins().expect(&self.query.snapshots)?;
            let record = Record::of(&names, &retrieval, &self.selection, &session);
            let sent = batches::send(rows.schema(), rows.into_stream(), &self.sender).await?;
            session.pins().recheck(&self.features.sources).await?;
            (sent, record)
        } else {
            let entities = match (entities, &self.query.rows) {
                (Some(entities), _) => entities,
                (None, EntityRows::Sql(sql)) => Entities::query(&mut session, sql, memory).await?,
                (None, _) => return Err(Error::invalid("entities", "there is no entity table")),
            };
            entities.check_timestamp(&self.query.timestamp)?;
            check_columns(&self.selection, &entities.schema)?;
            let (set, record) = self
                .join(&mut session, entities, (&names, &retrieval), memory)
                .await?;
            let pieces = stream::iter(set.pieces());
            let sent = batches::send(set.schema(), pieces, &self.sender).await?;
            debug_assert_eq!(sent, set.rows() as u64);
            (sent, record)
        };
        record
            .store(&self.features, &self.scope, &names, &retrieval)
            .await?;
        let result = pb::HistoricalFeaturesResult {
            retrieval_id: retrieval.id.to_string(),
            training_set: retrieval.training_set,
            snapshots: session.pins().snapshots(),
            rows,
        };
        let last = FlightData::new().with_app_metadata(result.encode_to_vec());
        // Nobody listens only when the client is gone.
        let _ = self.sender.send(last).await;
        Ok(())
    }

    async fn join(
        &self,
        session: &mut Session,
        entities: Entities,
        (names, retrieval): (&Names, &Retrieval),
        memory: usize,
    ) -> Result<(ResultSet, Record)> {
        // Opened first, so that a source which is not what it should be is told before it is read.
        for join in &self.selection.joins {
            let source = &join.view.definition.source;
            let opened = session.source(source).await;
            opened.map_err(crate::features::sources::PlanError::into_error)?;
        }
        session.pins().expect(&self.query.snapshots)?;
        let joined = join_all(session, &self.selection, &entities, &self.query, memory).await;
        // A file that was replaced under our hands fails in many ways; the reason is this one.
        session.pins().recheck(&self.features.sources).await?;
        let record = Record::of(names, retrieval, &self.selection, session);
        // The selection goes into the result; a session is not needed for it.
        let set = ResultSet::new(entities, self.selection.clone(), joined?)?;
        Ok((set, record))
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

fn not_offered<T>() -> Result<T, Status> {
    Err(Status::unimplemented(
        "of Arrow Flight, this server offers DoExchange only",
    ))
}

#[tonic::async_trait]
impl FlightService for FeatureFlight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let caller = Caller::of(&request)?;
        let exchange = self.exchange(&caller, request.into_inner()).await?;
        Ok(Response::new(exchange.boxed()))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_offered()
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_offered()
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        not_offered()
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        not_offered()
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        not_offered()
    }

    async fn do_get(
        &self,
        _request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        not_offered()
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        not_offered()
    }

    async fn do_action(
        &self,
        _request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        not_offered()
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        not_offered()
    }
}
