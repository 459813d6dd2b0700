//! The online store in one file of the data folder, by redb.
//!
//! Reads see the last finished write and never wait for one; a write that was reported is on disk.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::{Mutex, RwLock};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::{Layout, OnlineStore, Row, TableId};
use crate::error::{Error, Result};

/// Project, view, key -> row.
const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
/// Project, view, number of the layout -> layout as JSON.
const LAYOUTS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("layouts");
/// Memory for pages; it is taken as pages are read.
const CACHE_BYTES: usize = 64 << 20;
/// Reason of an error that ends when the file is opened again.
const STALE: &str = "ONLINE_STORE_STALE";

/// The store.
#[derive(Debug, Clone)]
pub(in crate::features) struct EmbeddedStore {
    file: Arc<OpenFile>,
    layouts: Arc<Mutex<HashMap<Vec<u8>, Layout>>>,
}

impl EmbeddedStore {
    /// Opens the file, or makes it.
    pub(in crate::features) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: Arc::new(OpenFile {
                path: path.to_owned(),
                database: RwLock::new(Some(open(path)?)),
            }),
            layouts: Arc::default(),
        })
    }
}

/// The open file. After an error of the disk (it was full) the database takes no more writes before it is opened again.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// Empty only when it could not be opened again so far.
    database: RwLock<Option<Database>>,
}

impl OpenFile {
    /// Does something with the database, once more where it had to be opened again.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T>) -> Result<T> {
        let attempt = || match &*self.database.read() {
            Some(database) => work(database),
            None => Err(stale()),
        };
        match attempt() {
            Err(Error::Unavailable { reason: STALE, .. }) => {
                self.reopen()?;
                attempt()
            }
            done => done,
        }
    }

    fn reopen(&self) -> Result<()> {
        let mut database = self.database.write();
        // The file can be open only once.
        *database = None;
        *database = Some(open(&self.path)?);
        tracing::warn!("the online store was opened again after an error of the disk");
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(failure)?;
    // Tables are made by the first write; made now, no read has to wonder.
    let reading = database.begin_read().map_err(failure)?;
    let exist = reading.open_table(ROWS).is_ok() && reading.open_table(LAYOUTS).is_ok();
    drop(reading);
    if !exist {
        let transaction = begin_write(&database)?;
        transaction.open_table(ROWS).map_err(failure)?;
        transaction.open_table(LAYOUTS).map_err(failure)?;
        transaction.commit().map_err(failure)?;
    }
    Ok(database)
}

impl OnlineStore for EmbeddedStore {
    fn read(
        &self,
        table: &TableId,
        keys: Vec<Vec<u8>>,
    ) -> BoxFuture<'static, Result<Vec<Option<Row>>>> {
        let (file, prefix, origin) = (self.file.clone(), prefix(table), table.origin);
        blocking(move || {
            file.with(|database| {
                let transaction = database.begin_read().map_err(failure)?;
                let rows = transaction.open_table(ROWS).map_err(failure)?;
                let mut found = Vec::with_capacity(keys.len());
                for key in &keys {
                    let stored = rows
                        .get(address(&prefix, key).as_slice())
                        .map_err(failure)?;
                    let row = stored.map(|bytes| Row::decode(bytes.value())).transpose()?;
                    found.push(row.filter(|row| row.origin == origin));
                }
                Ok(found)
            })
        })
    }

    fn write(&self, table: &TableId, rows: Vec<(Vec<u8>, Row)>) -> BoxFuture<'static, Result<()>> {
        let (file, prefix) = (self.file.clone(), prefix(table));
        blocking(move || {
            file.with(|database| {
                let transaction = begin_write(database)?;
                {
                    let mut table = transaction.open_table(ROWS).map_err(failure)?;
                    for (key, row) in &rows {
                        let address = address(&prefix, key);
                        let stored = table.get(address.as_slice()).map_err(failure)?;
                        let stored = stored.map(|bytes| Row::decode(bytes.value())).transpose()?;
                        if stored.is_none_or(|stored| row.replaces(&stored)) {
                            table
                                .insert(address.as_slice(), row.encode().as_slice())
                                .map_err(failure)?;
                        }
                    }
                }
                transaction.commit().map_err(failure)
            })
        })
    }

    fn layout(&self, table: &TableId, layout: u64) -> BoxFuture<'static, Result<Option<Layout>>> {
        let address = address(&prefix(table), &layout.to_be_bytes());
        if let Some(known) = self.layouts.lock().get(&address) {
            return futures::future::ready(Ok(Some(known.clone()))).boxed();
        }
        let (file, layouts) = (self.file.clone(), self.layouts.clone());
        blocking(move || {
            let layout: Option<Layout> = file.with(|database| {
                let transaction = database.begin_read().map_err(failure)?;
                let table = transaction.open_table(LAYOUTS).map_err(failure)?;
                let stored = table.get(address.as_slice()).map_err(failure)?;
                stored
                    .map(|stored| serde_json::from_slice(stored.value()).map_err(Error::internal))
                    .transpose()
            })?;
            if let Some(layout) = &layout {
                layouts.lock().insert(address, layout.clone());
            }
            Ok(layout)
        })
    }

    fn put_layout(&self, table: &TableId, layout: Layout) -> BoxFuture<'static, Result<()>> {
        let address = address(&prefix(table), &layout.id().to_be_bytes());
        let file = self.file.clone();
        blocking(move || {
            let bytes = serde_json::to_vec(&layout).map_err(Error::internal)?;
            file.with(|database| {
                let transaction = begin_write(database)?;
                {
                    let mut table = transaction.open_table(LAYOUTS).map_err(failure)?;
                    table
                        .insert(address.as_slice(), bytes.as_slice())
                        .map_err(failure)?;
                }
                transaction.commit().map_err(failure)
            })
        })
    }
}

/// A write that leaves the file so that it opens at once, also after a crash: without the state of the allocator, which this
/// keeps with every commit, opening reads the whole file.
fn begin_write(database: &Database) -> Result<WriteTransaction> {
    let mut transaction = database.begin_write().map_err(failure)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Project and view; names of views have no control characters, so a zero ends them.
fn prefix(table: &TableId) -> Vec<u8> {
    let mut prefix = table.project.as_bytes().to_vec();
    prefix.extend(table.view.as_bytes());
    prefix.push(0);
    prefix
}

fn address(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [prefix, key].concat()
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let task = tokio::task::spawn_blocking(work);
    async move { task.await.map_err(Error::internal)? }.boxed()
}

fn failure(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(error) => error.into(),
        redb::Error::PreviousIo => stale(),
        error => Error::internal(error),
    }
}

fn stale() -> Error {
    Error::unavailable(
        STALE,
        "the online store could not be opened again after an error of the disk",
    )
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn row(event: i128, origin: u64, value: u8) -> Row {
        Row {
            event: Some(event),
            created: None,
            origin,
            layout: 1,
            values: vec![value],
        }
    }

    fn table(view: &str, origin: u64) -> TableId {
        TableId {
            project: Uuid::from_u128(1),
            view: view.to_owned(),
            origin,
        }
    }

    #[tokio::test]
    async fn the_newest_row_stays_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("online.redb");
        let key = || b"k".to_vec();
        {
            let store = EmbeddedStore::open(&path).unwrap();
            let weather = table("weather", 1);
            for (event, value) in [(5, 1), (9, 2), (7, 3), (9, 4)] {
                store
                    .write(&weather, vec![(key(), row(event, 1, value))])
                    .await
                    .unwrap();
            }
            let other = vec![(key(), row(1, 1, 9))];
            store.write(&table("weather2", 1), other).await.unwrap();
            store
                .put_layout(&weather, Layout(vec![("f".into(), "Int64".into())]))
                .await
                .unwrap();
        }
        let store = EmbeddedStore::open(&path).unwrap();
        let read = |table| store.read(&table, vec![key(), b"none".to_vec()]);
        let found = read(table("weather", 1)).await.unwrap();
        assert_eq!(found, [Some(row(9, 1, 4)), None]);
        assert_eq!(
            read(table("weather", 2)).await.unwrap(),
            [None, None],
            "another origin"
        );
        let layout = Layout(vec![("f".into(), "Int64".into())]);
        let stored = store
            .layout(&table("weather", 1), layout.id())
            .await
            .unwrap();
        assert_eq!(stored, Some(layout));
    }

    #[tokio::test]
    async fn concurrent_writers_leave_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("online.redb")).unwrap();
        let weather = table("weather", 1);
        let writes = (0..40_u8).map(|n| {
            let event = i128::from(u32::from(n) * 7 % 40);
            store.write(&weather, vec![(b"k".to_vec(), row(event, 1, 0))])
        });
        futures::future::try_join_all(writes).await.unwrap();
        let found = store.read(&weather, vec![b"k".to_vec()]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().event, Some(39));
    }
}
