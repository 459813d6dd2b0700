//! A list of Parquet files as a table.
//!
//! Invariant: rows come file by file in the order of the list, and within a file in its order; columns have the types that
//! the files have. This file must not know where the list comes from.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::{
        TableType,
        file_format::{FileFormat as _, parquet::ParquetFormat},
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    error::{DataFusionError, Result as QueryResult},
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::ExecutionPlan,
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::rows::guarded;
use crate::{
    error::{Error, Result},
    objects::sources::{Listing, SourceFile, store_error},
};

/// Footers read side by side.
const FOOTERS: usize = 8;

/// The files of one source.
#[derive(Debug)]
pub(super) struct ParquetTable {
    store_url: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
    schema: SchemaRef,
}

impl ParquetTable {
    /// Reads the footers and finds the columns that the files have together.
    pub(super) async fn open(state: &dyn Session, listing: &Listing) -> Result<Self> {
        // Boxed, for the compiler does not see through borrowed futures in a stream.
        let mut footers = Vec::with_capacity(listing.files.len());
        for file in &listing.files {
            footers.push(footer(state, listing, file).boxed());
        }
        let schemas: Vec<SchemaRef> = stream::iter(footers)
            .buffered(FOOTERS)
            .try_collect()
            .await?;
        let schemas: Vec<(&SourceFile, SchemaRef)> = listing.files.iter().zip(schemas).collect();
        let store_url =
            ObjectStoreUrl::parse(listing.store_url.as_str()).map_err(Error::internal)?;
        let files = listing.files.iter();
        Ok(Self {
            store_url,
            files: files
                .map(|file| PartitionedFile::new_from_meta(file.meta.clone()))
                .collect(),
            schema: Arc::new(merge(&schemas)?),
        })
    }
}

async fn footer(state: &dyn Session, listing: &Listing, file: &SourceFile) -> Result<SchemaRef> {
    let format = ParquetFormat::default().with_force_view_types(false);
    let objects = std::slice::from_ref(&file.meta);
    let what = format!("`{}`", file.uri);
    guarded(&what, format.infer_schema(state, &listing.store, objects))
        .await?
        .map_err(|error| match error.find_root() {
            DataFusionError::ObjectStore(error) => store_error(&file.uri, error),
            root => Error::precondition(
                "SOURCE_UNREADABLE",
                format!(
                    "`{}` is not a readable Parquet file: {}",
                    file.uri,
                    root.strip_backtrace()
                ),
            ),
        })
}

/// All columns of all files; a column that a file does not have is null there.
fn merge(schemas: &[(&SourceFile, SchemaRef)]) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    let mut known: HashMap<String, (usize, &SourceFile, usize)> = HashMap::new();
    for (file, schema) in schemas {
        for field in schema.fields() {
            match known.get_mut(field.name()) {
                None => {
                    known.insert(field.name().clone(), (fields.len(), file, 1));
                    fields.push(field.as_ref().clone());
                }
                Some((at, first, count)) => {
                    let merged = &fields[*at];
                    if merged.data_type() != field.data_type() {
                        let text = format!(
                            "the files differ: column `{}` is {} in `{}` and {} in `{}`",
                            field.name(),
                            merged.data_type(),
                            first.uri,
                            field.data_type(),
                            file.uri
                        );
                        return Err(Error::precondition("SOURCE_UNREADABLE", text));
                    }
                    let nullable = merged.is_nullable() || field.is_nullable();
                    *count += 1;
                    fields[*at].set_nullable(nullable);
                }
            }
        }
    }
    for (at, _, count) in known.values() {
        if *count < schemas.len() {
            fields[*at].set_nullable(true);
        }
    }
    Ok(Schema::new(fields))
}

#[tonic::async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        // Filters skip row groups and pages; what is left is filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        // The predicate itself comes down by the physical optimizer, once its types are settled.
        let source = ParquetSource::new(self.schema.clone()).with_enable_page_index(true);
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_group(FileGroup::new(self.files.clone()))
            .with_preserve_order(true)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use object_store::{ObjectMeta, path::Path};

    use super::*;

    fn file(name: &str) -> SourceFile {
        SourceFile {
            uri: name.to_owned(),
            meta: ObjectMeta {
                location: Path::from(name),
                last_modified: Default::default(),
                size: 1,
                e_tag: None,
                version: None,
            },
        }
    }

    #[test]
    fn files_may_lack_columns_but_not_differ_in_type() {
        let (a, b) = (file("a"), file("b"));
        let schema = |fields: &[(&str, DataType)]| -> SchemaRef {
            let fields = fields.iter().map(|(n, t)| Field::new(*n, t.clone(), false));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let both = [
            (&a, schema(&[("k", DataType::Int64)])),
            (&b, schema(&[("k", DataType::Int64), ("v", DataType::Utf8)])),
        ];
        let merged = merge(&both).unwrap();
        assert!(!merged.field(0).is_nullable());
        assert!(merged.field(1).is_nullable());
        let differing = [
            (&a, schema(&[("k", DataType::Int64)])),
            (&b, schema(&[("k", DataType::Utf8)])),
        ];
        let error = merge(&differing).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("`b`"), "{error}");
    }
}
