//! [`Session`]: one query session over the sources and views of a project.
//!
//! Tables are opened when something asks for them, depth first, so a SQL source finds what it refers to, and a cycle is
//! found by name. Everything runs in one partition: the order of rows is part of the meaning.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use datafusion::{
    catalog::MemorySchemaProvider,
    common::TableReference,
    dataframe::DataFrame,
    error::DataFusionError,
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    prelude::{SQLOptions, SessionConfig, SessionContext, ident},
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::ast,
    },
};
use futures::future::BoxFuture;
use mlplat_proto::features::v1::{self as pb, source::Location};

use super::{Pins, PlanError, parquet::ParquetTable};
use crate::{
    error::{Error, Result},
    features::{
        definitions::{Catalog, names::listed},
        sql::{MAX_OPERATORS, MAX_SOURCE_DEPTH, check_depth, check_operators},
    },
    objects::sources::Sources,
};

const SOURCES: &str = "sources";
const VIEWS: &str = "views";
const CATALOG: &str = "project";
const BARE: &str = "tables";

/// What a session may use.
#[derive(Debug, Clone)]
pub(in crate::features) struct SessionOptions {
    /// Bytes for sorts, joins and aggregates; beyond that they spill to disk.
    pub(in crate::features) memory_bytes: usize,
}

/// A query session.
pub(in crate::features) struct Session {
    context: SessionContext,
    catalog: Arc<Catalog>,
    sources: Arc<Sources>,
    tables: BTreeMap<String, DataFrame>,
    registered: HashSet<(&'static str, String)>,
    /// Sources that are being opened, outermost first, with the depth of what they rest on so far.
    opening: Vec<(String, usize)>,
    /// How many sources lie below each other, down from each that is open.
    depths: BTreeMap<String, usize>,
    pins: Pins,
    sql_sources: BTreeSet<String>,
}

impl Session {
    /// A session in which nothing is open yet.
    pub(in crate::features) fn new(
        catalog: Arc<Catalog>,
        sources: Arc<Sources>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_information_schema(false)
            .with_default_catalog_and_schema(CATALOG, BARE)
            // Columns are called what the files call them.
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
            .build_arc()
            .map_err(Error::internal)?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        if let Some(project) = context.catalog(CATALOG) {
            for schema in [SOURCES, VIEWS] {
                project
                    .register_schema(schema, Arc::new(MemorySchemaProvider::new()))
                    .map_err(Error::internal)?;
            }
        }
        Ok(Self {
            context,
            catalog,
            sources,
            tables: BTreeMap::new(),
            registered: HashSet::new(),
            opening: Vec::new(),
            depths: BTreeMap::new(),
            pins: Pins::default(),
            sql_sources: BTreeSet::new(),
        })
    }

    /// The definitions that the session sees.
    pub(in crate::features) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The files that were opened so far.
    pub(in crate::features) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The SQL sources that were opened so far.
    pub(in crate::features) fn sql_sources(&self) -> &BTreeSet<String> {
        &self.sql_sources
    }

    /// The rows of a source, its columns renamed as it says.
    pub(in crate::features) async fn source(&mut self, name: &str) -> Result<DataFrame, PlanError> {
        if let Some(table) = self.tables.get(name) {
            let table = table.clone();
            self.rests_on(self.depths.get(name).copied().unwrap_or_default());
            return Ok(table);
        }
        let catalog = self.catalog.clone();
        let Some(source) = catalog.sources.get(name) else {
            return Err(PlanError::Definition(format!(
                "there is no source `{name}`"
            )));
        };
        if let Some(at) = self.opening.iter().position(|(open, _)| open == name) {
            let mut chain: Vec<&str> = self.opening[at..].iter().map(|(n, _)| n.as_str()).collect();
            chain.push(name);
            let text = format!(
                "sources refer to each other in a circle: {}",
                chain.join(" -> ")
            );
            return Err(PlanError::Definition(text));
        }
        if self.opening.len() > MAX_SOURCE_DEPTH {
            return Err(too_deep(name));
        }
        self.opening.push((name.to_owned(), 0));
        let opened = self.open(source).await;
        let below = self.opening.pop().map_or(0, |(_, below)| below);
        let table = opened?;
        if below > MAX_SOURCE_DEPTH {
            return Err(too_deep(name));
        }
        self.depths.insert(name.to_owned(), below + 1);
        self.rests_on(below + 1);
        self.tables.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Notes that what is being opened rests on something of this depth.
    fn rests_on(&mut self, depth: usize) {
        if let Some((_, below)) = self.opening.last_mut() {
            *below = depth.max(*below);
        }
    }

    /// The columns of a view: keys, times and features.
    async fn view(&mut self, name: &str) -> Result<DataFrame, PlanError> {
        let catalog = self.catalog.clone();
        let Some(view) = catalog.views.get(name) else {
            return Err(PlanError::Definition(format!(
                "there is no feature view `{name}`"
            )));
        };
        let view = &view.definition;
        let table = self.source(&view.source).await?;
        if view.features.is_empty() {
            return Ok(table);
        }
        let source = catalog.sources.get(&view.source);
        let times = source
            .into_iter()
            .flat_map(|source| {
                [
                    source.timestamp_column.clone(),
                    source.created_column.clone(),
                ]
            })
            .filter(|column| !column.is_empty());
        let features = view.features.iter().map(|feature| feature.name.clone());
        let mut columns: Vec<String> = Vec::new();
        for column in join_keys(&catalog, view)
            .into_iter()
            .chain(times)
            .chain(features)
        {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let what = format!("feature view `{name}`");
        table
            .select(columns.iter().map(ident))
            .map_err(|error| PlanError::planning(&what, &error))
    }

    /// The rows of a query over sources and views. `what` is for messages.
    pub(in crate::features) fn query<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<DataFrame, PlanError>> {
        Box::pin(async move {
            let planning = |error: DataFusionError| PlanError::planning(what, &error);
            let state = self.context.state();
            let statement = parse_select(what, sql)?;
            for reference in state
                .resolve_table_references(&statement)
                .map_err(planning)?
            {
                self.register(what, &reference).await?;
            }
            let state = self.context.state();
            let plan = state.statement_to_plan(statement).await.map_err(planning)?;
            check_depth(&plan).map_err(|text| PlanError::Definition(format!("{what}: {text}")))?;
            SQLOptions::new()
                .with_allow_ddl(false)
                .with_allow_dml(false)
                .with_allow_statements(false)
                .verify_plan(&plan)
                .map_err(planning)?;
            let table = DataFrame::new(state, plan);
            distinct_columns(what, &table)?;
            // As a view, so that the names of its columns are plain.
            self.context.read_table(table.into_view()).map_err(planning)
        })
    }

    /// The names of the tables that a query refers to, with `sources` or `views` where it says so.
    pub(in crate::features) fn references(
        &self,
        what: &str,
        sql: &str,
    ) -> Result<Vec<(Option<String>, String)>, PlanError> {
        let planning = |error: DataFusionError| PlanError::planning(what, &error);
        let state = self.context.state();
        let statement = parse_select(what, sql)?;
        let references = state
            .resolve_table_references(&statement)
            .map_err(planning)?;
        let name = |reference: TableReference| {
            let schema = reference.schema().map(str::to_owned);
            (schema, reference.table().to_owned())
        };
        Ok(references.into_iter().map(name).collect())
    }

    async fn open(&mut self, source: &pb::Source) -> Result<DataFrame, PlanError> {
        let what = format!("source `{}`", source.name);
        let table = match &source.location {
            Some(Location::Parquet(files)) => {
                let listing = self.sources.list(&files.uri).await?;
                self.context
                    .register_object_store(&listing.store_url, listing.store.clone());
                let state = self.context.state();
                let table = ParquetTable::open(&state, &listing).await?;
                self.pins.add(&source.name, &files.uri, &listing);
                self.context
                    .read_table(Arc::new(table))
                    .map_err(|error| PlanError::planning(&what, &error))?
            }
            Some(Location::Sql(sql)) => {
                self.sql_sources.insert(source.name.clone());
                self.query(&what, &sql.query).await?
            }
            None => return Err(PlanError::Definition(format!("{what} has no location"))),
        };
        rename(&what, source, table)
    }

    /// Opens what a query refers to, under the name it uses.
    async fn register(&mut self, what: &str, reference: &TableReference) -> Result<(), PlanError> {
        let (schema, name) = match reference {
            TableReference::Bare { table } => (BARE, table),
            TableReference::Partial { schema, table } if **schema == *SOURCES => (SOURCES, table),
            TableReference::Partial { schema, table } if **schema == *VIEWS => (VIEWS, table),
            _ => {
                let text = format!(
                    "{what}: `{reference}` is no table; name a source or view of the project, `sources.<name>` or \
                     `views.<name>`"
                );
                return Err(PlanError::Definition(text));
            }
        };
        if self.registered.contains(&(schema, name.to_string())) {
            return Ok(());
        }
        let is_source = self.catalog.sources.contains_key(name.as_ref());
        let is_view = self.catalog.views.contains_key(name.as_ref());
        let table = match schema {
            SOURCES if is_source => self.source(name).await?,
            VIEWS if is_view => self.view(name).await?,
            BARE if is_source => self.source(name).await?,
            BARE if is_view => self.view(name).await?,
            _ => {
                let sources = listed(self.catalog.sources.keys().map(String::as_str));
                let views = listed(self.catalog.views.keys().map(String::as_str));
                let text = format!(
                    "{what}: there is no table `{reference}`; the sources are {sources}, the views {views} (names are \
                     case-sensitive)"
                );
                return Err(PlanError::Definition(text));
            }
        };
        let target = TableReference::partial(schema, name.to_string());
        self.context
            .register_table(target, table.into_view())
            .map_err(|error| PlanError::planning(what, &error))?;
        self.registered.insert((schema, name.to_string()));
        Ok(())
    }
}

/// The key columns of a view, from its entities, each once.
pub(in crate::features) fn join_keys(catalog: &Catalog, view: &pb::FeatureView) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for entity in &view.entities {
        let entity = catalog.entities.get(entity);
        for key in entity.into_iter().flat_map(|entity| &entity.join_keys) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    keys
}

fn too_deep(name: &str) -> PlanError {
    PlanError::Definition(format!(
        "source `{name}` rests on more than {MAX_SOURCE_DEPTH} sources that rest on each other; put some of the queries together"
    ))
}

/// Parses a query, and refuses everything that is not one query.
fn parse_select(what: &str, sql: &str) -> Result<Statement, PlanError> {
    check_operators(sql, MAX_OPERATORS)
        .map_err(|text| PlanError::Definition(format!("{what} {text}")))?;
    let statements = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| PlanError::planning(what, &error))?;
    let mut statements = statements.into_iter();
    if let (Some(Statement::Statement(inner)), None) = (statements.next(), statements.next())
        && matches!(*inner, ast::Statement::Query(_))
    {
        return Ok(Statement::Statement(inner));
    }
    let text =
        format!("{what}: only one SELECT statement is allowed, which reads and changes nothing");
    Err(PlanError::Definition(text))
}

fn distinct_columns(what: &str, table: &DataFrame) -> Result<(), PlanError> {
    let mut seen = HashSet::new();
    for field in table.schema().fields() {
        if !seen.insert(field.name()) {
            let name = field.name();
            let text =
                format!("{what} has more than one column `{name}`; rename all but one with AS");
            return Err(PlanError::Definition(text));
        }
    }
    Ok(())
}

/// Applies the field mapping.
fn rename(what: &str, source: &pb::Source, table: DataFrame) -> Result<DataFrame, PlanError> {
    if source.field_mapping.is_empty() {
        return Ok(table);
    }
    let names: Vec<String> = table
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    for from in source.field_mapping.keys() {
        if !names.contains(from) {
            let columns = listed(names.iter().map(String::as_str));
            let text =
                format!("{what} has no column `{from}` to rename; its columns are {columns}");
            return Err(PlanError::Definition(text));
        }
    }
    let columns = names.iter().map(|name| {
        let column = ident(name);
        match source.field_mapping.get(name) {
            Some(to) => column.alias(to),
            None => column,
        }
    });
    let mut seen = HashSet::new();
    for name in &names {
        let to = source.field_mapping.get(name).unwrap_or(name);
        if !seen.insert(to) {
            let text = format!("{what}: the field mapping leaves two columns called `{to}`");
            return Err(PlanError::Definition(text));
        }
    }
    let renamed = table.select(columns.collect::<Vec<_>>());
    renamed.map_err(|error| PlanError::planning(what, &error))
}
