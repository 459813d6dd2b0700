//! The database: SQLite beside the server, or PostgreSQL.
//!
//! Invariant: on SQLite all writes go through one connection, so that writers queue here and never meet a busy file; on
//! both, what was committed survives a crash of the machine. It knows no table.

use std::{path::Path, time::Duration};

use mlplat_migrations::Migrator;
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use sea_orm_migration::MigratorTrait as _;
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Key of PostgreSQL's advisory lock under which one replica migrates while the others wait.
const MIGRATION_LOCK: i64 = 0x6d6c_706c_6174;

/// Connections to the database.
#[derive(Debug, Clone)]
pub struct Db {
    reader: DatabaseConnection,
    writer: DatabaseConnection,
}

impl Db {
    /// Connects, and brings the schema up to date. Safe when several replicas start at once.
    pub async fn open(url: &str, connections: u32) -> anyhow::Result<Self> {
        if url.starts_with("sqlite:") {
            let writer = Database::connect(sqlite(url, 1)).await?;
            Migrator::up(&writer, None).await?;
            let reader = Database::connect(sqlite(url, connections)).await?;
            Ok(Self { reader, writer })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            migrate_postgres(url).await?;
            let pool = Database::connect(postgres(url, connections)).await?;
            Ok(Self {
                reader: pool.clone(),
                writer: pool,
            })
        } else {
            anyhow::bail!("database_url must begin with sqlite: or postgres:")
        }
    }

    /// URL of the SQLite file at `path`.
    pub fn sqlite_url(path: &Path) -> String {
        format!("sqlite://{}?mode=rwc", path.display())
    }

    /// For reading outside of a transaction.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Begins a transaction that may write. Keep it short: on SQLite all other writers wait.
    pub async fn begin(&self) -> Result<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.writer.begin_with_options(options).await?)
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// Asks whether the database answers.
    pub async fn check(&self) -> Result<()> {
        let ping = async { tokio::try_join!(self.reader.ping(), self.writer.ping()) };
        match tokio::time::timeout(Duration::from_secs(5), ping).await {
            Ok(answer) => answer.map(|_| ()).map_err(Error::from),
            Err(_) => Err(Error::unavailable(
                "DATABASE_UNAVAILABLE",
                "the database does not answer",
            )),
        }
    }

    /// Closes all connections; on SQLite this also moves the write-ahead log into the file.
    pub async fn close(self) -> std::result::Result<(), DbErr> {
        self.reader.close().await?;
        self.writer.close().await
    }
}

fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(10))
                .pragma("temp_store", "memory")
                // 8 MiB a connection: with the default of 2 MiB a search through an index reads most pages again and again.
                .pragma("cache_size", "-8192")
                .statement_cache_capacity(256)
        });
    options
}

fn postgres(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(connections)
        .min_connections(1)
        .connect_timeout(CONNECT_TIMEOUT)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .set_application_name("mlplat-server")
        .sqlx_logging(false);
    options
}

async fn migrate_postgres(url: &str) -> anyhow::Result<()> {
    // One connection, for the lock belongs to it.
    let connection = Database::connect(postgres(url, 1)).await?;
    connection
        .execute_unprepared(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        .await?;
    let migrated = Migrator::up(&connection, None).await;
    connection
        .execute_unprepared(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
        .await?;
    connection.close().await?;
    Ok(migrated?)
}
