//! A database of its own for every test server.

use anyhow::Context as _;
use mlplat_server::db::Db;
use sea_orm::{ConnectionTrait as _, Database};
use std::path::Path;
use uuid::Uuid;

/// The variable that chooses PostgreSQL.
pub(crate) const DATABASE_URL: &str = "MLPLAT_TEST_DATABASE_URL";

/// A place for the tables of one server.
#[derive(Debug, Clone)]
pub enum TestDatabase {
    /// A file.
    Sqlite {
        /// Its URL.
        url: String,
    },
    /// A schema.
    Postgres {
        /// URL of the database without the schema.
        admin_url: String,
        /// Name of the schema.
        schema: String,
        /// URL that leads into the schema.
        url: String,
    },
}

impl TestDatabase {
    /// Makes it; SQLite is a file in `folder`.
    pub async fn create(folder: &Path) -> anyhow::Result<Self> {
        let Ok(admin_url) = std::env::var(DATABASE_URL) else {
            return Ok(Self::Sqlite {
                url: Db::sqlite_url(&folder.join("mlplat.db"))?,
            });
        };
        let schema = format!("test_{}", Uuid::now_v7().simple());
        let connection = Database::connect(&admin_url)
            .await
            .context("the test database cannot be reached")?;
        connection
            .execute_unprepared(&format!("CREATE SCHEMA {schema}"))
            .await?;
        connection.close().await?;
        let separator = if admin_url.contains('?') { '&' } else { '?' };
        let url = format!("{admin_url}{separator}options=-c%20search_path%3D{schema}");
        Ok(Self::Postgres {
            admin_url,
            schema,
            url,
        })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        match self {
            Self::Sqlite { url } | Self::Postgres { url, .. } => url,
        }
    }

    /// Flags for a server process.
    pub fn flags(&self) -> Vec<String> {
        vec!["--database-url".to_owned(), self.url().to_owned()]
    }

    /// Removes it.
    pub async fn drop(self) -> anyhow::Result<()> {
        if let Self::Postgres {
            admin_url, schema, ..
        } = self
        {
            let connection = Database::connect(&admin_url).await?;
            connection
                .execute_unprepared(&format!("DROP SCHEMA {schema} CASCADE"))
                .await?;
            connection.close().await?;
        }
        Ok(())
    }
}
