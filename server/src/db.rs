//! The database: SQLite beside the server, or PostgreSQL.
//!
//! Invariant: on SQLite all writes go through one connection, so that writers queue here and never meet a busy file; on
//! both, what was committed survives a crash of the machine. It knows no table.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use mlplat_migrations::Migrator;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
    sea_query::{CommonTableExpression, InsertStatement, SqliteQueryBuilder, WithClause},
};
use sea_orm_migration::MigratorTrait as _;
use sqlx::{
    Connection as _,
    sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Our queries take milliseconds: to start other processes or a compiler for them takes longer than they do.
const SHORT_QUERIES: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0";
/// A connection to PostgreSQL that was idle for longer is tried before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Inserts that go into one statement. Each has at most 4,000 values (see the rows a statement in `lineage::store` and
/// `runs::texts`), and PostgreSQL takes 65,535 a statement.
const TOGETHER: usize = 8;
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
        // Said here, for the driver would show the whole URL, with its password.
        url::Url::parse(url).context("database_url is not a URL")?;
        if url.starts_with("sqlite:") {
            let writer = Database::connect(sqlite_writer(url)).await?;
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

    /// URL of the SQLite file at `path`, whatever characters the path has.
    ///
    /// # Errors
    /// Of a relative path, when there is no working directory.
    pub fn sqlite_url(path: &Path) -> anyhow::Result<String> {
        let path = std::path::absolute(path)?;
        let mut url = "sqlite://".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' => url.push(char::from(*byte)),
                byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
                byte => url.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(url + "?mode=rwc")
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

    /// Inserts all of it or nothing, in one round trip where it is not too much; see [`insert_together`].
    pub async fn insert_at_once(&self, inserts: Vec<InsertStatement>) -> Result<()> {
        if inserts.is_empty() {
            return Ok(());
        }
        if inserts.len() > TOGETHER {
            let txn = self.begin().await?;
            insert_together(&txn, inserts).await?;
            return Ok(txn.commit().await?);
        }
        let mut statement = one_of(inserts, self.backend());
        if self.backend() == DbBackend::Sqlite {
            // Where one of them fails, or nobody waits any more, what was begun is rolled back when the connection is released.
            statement.sql = format!("BEGIN IMMEDIATE;{}COMMIT", statement.sql);
        }
        self.writer.execute_raw(statement).await?;
        Ok(())
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

/// Inserts all of it at once as far as that goes, for every statement is a round trip (on SQLite one between threads). No two
/// of them may be of the same row, and none may need to see what another one inserts.
///
/// # Errors
/// Those of the database; the transaction is to be given up then.
pub async fn insert_together(
    txn: &impl ConnectionTrait,
    inserts: Vec<InsertStatement>,
) -> Result<()> {
    let backend = txn.get_database_backend();
    let mut inserts = inserts.into_iter();
    loop {
        let part: Vec<_> = inserts.by_ref().take(TOGETHER).collect();
        if part.is_empty() {
            return Ok(());
        }
        txn.execute_raw(one_of(part, backend)).await?;
    }
}

fn one_of(inserts: Vec<InsertStatement>, backend: DbBackend) -> Statement {
    match backend {
        DbBackend::Sqlite => one_after_the_other(inserts),
        _ => one_with_the_others(inserts, backend),
    }
}

/// Several statements in one text, as SQLite takes them.
fn one_after_the_other(inserts: Vec<InsertStatement>) -> Statement {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for insert in inserts {
        let (text, more) = insert.build(SqliteQueryBuilder);
        sql.push_str(&text);
        sql.push(';');
        values.extend(more);
    }
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// The first one, with all others as its common table expressions. PostgreSQL begins with the statement itself and goes on with
/// the last of the others: listed backwards they lock their rows in the order in which they are given, as others do.
fn one_with_the_others(inserts: Vec<InsertStatement>, backend: DbBackend) -> Statement {
    let mut inserts = inserts.into_iter();
    let first = inserts.next().unwrap_or_default();
    if inserts.len() == 0 {
        return backend.build(&first);
    }
    let mut others = WithClause::new();
    for (number, insert) in inserts.rev().enumerate() {
        let mut other = CommonTableExpression::new();
        other.table_name(format!("insert_{number}")).query(insert);
        others.cte(other);
    }
    backend.build(&first.with(others))
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

/// The one connection that writes. It begins every transaction outside of any other, or is made anew.
///
/// After some errors (a full disk) SQLite rolls a transaction back by itself. The driver does not see that, goes on counting it as
/// open, and takes every later one for a part of it: those would be acknowledged and never committed.
fn sqlite_writer(url: &str) -> ConnectOptions {
    let mut options = sqlite(url, 1);
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                // Fails when there is nothing to roll back, as it mostly is.
                let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
                let clean = !connection.is_in_transaction();
                if !clean {
                    tracing::warn!(
                        "a transaction did not end well; the connection that writes is made anew"
                    );
                }
                Ok(clean)
            })
        })
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
        .sqlx_logging(false)
        // A round trip before every statement would cost as much as the statement. What was used a moment ago is there.
        .test_before_acquire(false)
        .map_sqlx_postgres_pool_opts(|pool| {
            pool.after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(SHORT_QUERIES).execute(connection).await?;
                    Ok(())
                })
            })
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if state.idle_for < TRUSTED {
                        return Ok(true);
                    }
                    Ok(connection.ping().await.is_ok())
                })
            })
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_path_whatever_is_in_it() {
        let url = Db::sqlite_url(Path::new("re la/x#1?.db")).expect("a URL");
        assert!(
            url.starts_with("sqlite:///") && url.ends_with("/re%20la/x%231%3F.db?mode=rwc"),
            "{url}"
        );
    }
}
