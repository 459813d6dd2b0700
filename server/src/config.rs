//! The settings of the server: flag over environment over file over default.
//!
//! Invariant: an unknown key is an error, and a secret is never printed. docs/configuration.md tells what each is for.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

/// Read from the working directory when no `--config` is given and it exists.
pub const DEFAULT_FILE: &str = "mlplat.toml";
/// Environment variables: this, then the key, with `__` between table and key.
pub const ENV_PREFIX: &str = "MLPLAT_SERVER__";

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the one port.
    pub listen: SocketAddr,
    /// Folder of everything that the server itself stores.
    pub data_dir: PathBuf,
    /// `postgres://…` or `sqlite:…`; unset: SQLite in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// Where artifacts go: a path or `s3://bucket/prefix`; unset: `data_dir/artifacts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_root: Option<String>,
    /// Name of the installation in OpenLineage namespaces; kept in the database from the first start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Who may come in.
    pub auth: AuthConfig,
    /// Feature sources.
    pub sources: SourcesConfig,
    /// S3, for artifacts and sources.
    pub s3: S3Config,
    /// Experiment tracking.
    pub tracking: TrackingConfig,
    /// Artifacts.
    pub artifacts: ArtifactsConfig,
    /// Upper bounds.
    pub limits: LimitsConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// How callers are known.
    pub mode: AuthMode,
}

/// How callers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Everybody is the local owner; only on a loopback address.
    None,
}

/// Feature sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcesConfig {
    /// Folders and `s3://bucket/prefix` under which sources may be read. With `auth.mode = "none"` everything may.
    pub allowed_roots: Vec<String>,
}

/// S3. What is unset comes from the usual AWS environment and files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Endpoint of an S3-compatible server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Bucket in the path rather than in the host name.
    pub path_style: bool,
    /// Access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
}

/// Experiment tracking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingConfig {
    /// How often the process of a run is asked to say that it lives, in seconds.
    pub heartbeat_interval_s: u32,
    /// A running run that was not heard of for this long, in seconds, is shown as crashed.
    pub heartbeat_timeout_s: u32,
    /// Days that deleted runs and experiments can be restored; after that they are removed for good.
    pub deleted_retention_days: u32,
}

/// Artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsConfig {
    /// Whether clients may send and read the bytes of large files past this server, by URLs that it signs; needs S3.
    pub direct_transfers: bool,
    /// How long an upload that is broken off can be resumed, and bytes that nothing leads to are kept, in seconds.
    pub orphan_grace_s: u64,
    /// How often such bytes are looked for, in seconds; 0 means never.
    pub collect_every_s: u64,
}

/// Upper bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest gRPC message, in bytes.
    pub max_message_bytes: usize,
    /// Largest artifact, in bytes.
    pub max_artifact_bytes: u64,
    /// Connections to the database: to PostgreSQL in all, to SQLite for reading.
    pub database_connections: u32,
    /// Longest time for a call to begin its answer, in milliseconds. Uploads and retrievals have limits of their own.
    pub request_timeout_ms: u64,
    /// Longest time of one query over feature sources, in milliseconds.
    pub query_timeout_ms: u64,
    /// Memory of one query over feature sources, in bytes.
    pub query_memory_bytes: usize,
    /// Queries over feature sources at a time; others wait.
    pub concurrent_queries: usize,
    /// Longest wait for open requests when the server is told to stop, in milliseconds.
    pub drain_timeout_ms: u64,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter such as `info` or `info,mlplat_server=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// OTLP gRPC endpoint that gets the traces, such as `http://127.0.0.1:4317`; unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Share of traces that are exported, 0 to 1; a caller that traces decides for itself.
    pub sample_ratio: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000),
            data_dir: PathBuf::from("mlplat-data"),
            database_url: None,
            artifact_root: None,
            instance: None,
            auth: AuthConfig {
                mode: AuthMode::None,
            },
            sources: SourcesConfig {
                allowed_roots: Vec::new(),
            },
            s3: S3Config {
                endpoint: None,
                region: None,
                path_style: true,
                access_key_id: None,
                secret_access_key: None,
            },
            tracking: TrackingConfig {
                heartbeat_interval_s: 30,
                heartbeat_timeout_s: 300,
                deleted_retention_days: 30,
            },
            artifacts: ArtifactsConfig {
                direct_transfers: true,
                orphan_grace_s: 24 * 3600,
                collect_every_s: 3600,
            },
            limits: LimitsConfig {
                max_message_bytes: 64 << 20,
                max_artifact_bytes: 50 << 30,
                database_connections: 16,
                request_timeout_ms: 60_000,
                query_timeout_ms: 600_000,
                query_memory_bytes: 1 << 30,
                concurrent_queries: 4,
                drain_timeout_ms: 10_000,
            },
            telemetry: TelemetryConfig {
                // A span per statement is for traces; in the log it would only be noise.
                log: "info,sea_orm=warn,sqlx=warn".to_owned(),
                log_format: LogFormat::Text,
                otlp_endpoint: None,
                sample_ratio: 1.0,
            },
        }
    }
}

/// Settings given as flags.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Flags {
    /// `--listen`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `--data-dir`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `--database-url`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// `--artifact-root`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_root: Option<String>,
}

impl Config {
    /// Puts the settings together. `file` must exist when it is given.
    pub fn load(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let mut sources = Figment::from(Serialized::defaults(Self::default()));
        let file = match file {
            Some(path) => {
                anyhow::ensure!(
                    path.is_file(),
                    "the configuration file {} does not exist",
                    path.display()
                );
                Some(path)
            }
            None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.is_file()),
        };
        if let Some(path) = file {
            sources = sources.merge(Toml::file_exact(path));
        }
        let config: Self = from_environment(sources)
            .merge(Serialized::defaults(flags))
            .extract()
            .context("the settings are not valid")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.auth.mode {
            AuthMode::None => anyhow::ensure!(
                self.listen.ip().is_loopback(),
                "listen = {} is not a loopback address: with auth.mode = \"none\" everybody who reaches the server owns it, so it \
                 answers on 127.0.0.1 or [::1] only",
                self.listen
            ),
        }
        let tracking = &self.tracking;
        anyhow::ensure!(
            tracking.heartbeat_interval_s >= 1,
            "tracking.heartbeat_interval_s must be at least 1"
        );
        anyhow::ensure!(
            tracking.heartbeat_timeout_s / 2 >= tracking.heartbeat_interval_s,
            "tracking.heartbeat_timeout_s must be at least twice tracking.heartbeat_interval_s"
        );
        let limits = &self.limits;
        anyhow::ensure!(
            limits.max_message_bytes >= 1 << 20,
            "limits.max_message_bytes must be at least 1 MiB"
        );
        anyhow::ensure!(
            limits.database_connections >= 1,
            "limits.database_connections must be at least 1"
        );
        anyhow::ensure!(
            limits.concurrent_queries >= 1,
            "limits.concurrent_queries must be at least 1"
        );
        anyhow::ensure!(
            (0.0..=1.0).contains(&self.telemetry.sample_ratio),
            "telemetry.sample_ratio must lie between 0 and 1"
        );
        Ok(())
    }

    /// Where artifacts go: a path or `s3://bucket/prefix`.
    pub fn artifact_location(&self) -> String {
        match &self.artifact_root {
            Some(root) => root.trim_end_matches('/').to_owned(),
            None => self.data_dir.join("artifacts").display().to_string(),
        }
    }

    /// The settings as TOML, secrets masked.
    pub fn to_masked_toml(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        shown.database_url = shown.database_url.map(|url| masked_url(&url));
        shown.s3.access_key_id = shown.s3.access_key_id.map(|_| MASK.to_owned());
        shown.s3.secret_access_key = shown.s3.secret_access_key.map(|_| MASK.to_owned());
        // These have no place for a password, but a URL has.
        shown.s3.endpoint = shown.s3.endpoint.map(|url| masked_url(&url));
        shown.telemetry.otlp_endpoint = shown.telemetry.otlp_endpoint.map(|url| masked_url(&url));
        Ok(toml::to_string(&shown)?)
    }
}

/// Settings that are text. The environment gives them as they are: a password of digits is no number.
const TEXTS: [&str; 10] = [
    "data_dir",
    "database_url",
    "artifact_root",
    "instance",
    "s3.endpoint",
    "s3.region",
    "s3.access_key_id",
    "s3.secret_access_key",
    "telemetry.log",
    "telemetry.otlp_endpoint",
];

fn from_environment(mut sources: Figment) -> Figment {
    let variables = || Env::prefixed(ENV_PREFIX).split("__");
    sources = sources.merge(variables().filter(|key| TEXTS.iter().all(|text| key != *text)));
    for (key, value) in variables()
        .filter(|key| TEXTS.iter().any(|text| key == *text))
        .iter()
    {
        sources = sources.merge((key.as_str(), value));
    }
    sources
}

const MASK: &str = "********";

/// The URL without its password, in the authority and in the query.
pub(crate) fn masked_url(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        return MASK.to_owned();
    };
    if parsed.password().is_none() && parsed.query().is_none() {
        return url.to_owned();
    }
    if parsed.password().is_some() && parsed.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if parsed.query_pairs().any(|(key, _)| key == "password") {
        let pairs: Vec<(String, String)> = parsed
            .query_pairs()
            .map(|(key, value)| {
                if key == "password" {
                    (key.into(), MASK.into())
                } else {
                    (key.into(), value.into())
                }
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(pairs);
    }
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn defaults_need_no_file() {
        assert_eq!(
            Config::load(None, &Flags::default()).expect("defaults"),
            Config::default()
        );
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = write("listen = \"127.0.0.1:7000\"\n[limits]\nquery_timeout_ms = 5\n");
        let config = Config::load(
            Some(file.path()),
            &Flags {
                listen: Some("127.0.0.1:8000".parse().expect("address")),
                ..Flags::default()
            },
        )
        .expect("valid");
        assert_eq!(
            (config.listen.port(), config.limits.query_timeout_ms),
            (8000, 5)
        );
    }

    #[test]
    fn unknown_keys_and_missing_files_are_errors() {
        let file = write("[limits]\nmax_mesage_bytes = 5\n");
        let error = format!(
            "{:#}",
            Config::load(Some(file.path()), &Flags::default()).expect_err("unknown key")
        );
        assert!(error.contains("max_mesage_bytes"), "{error}");
        assert!(Config::load(Some(Path::new("/nowhere/mlplat.toml")), &Flags::default()).is_err());
    }

    #[test]
    fn only_loopback_without_authentication() {
        let flags = Flags {
            listen: Some("0.0.0.0:5000".parse().expect("address")),
            ..Flags::default()
        };
        assert!(
            Config::load(None, &flags)
                .expect_err("refused")
                .to_string()
                .contains("loopback")
        );
    }

    #[test]
    fn secrets_are_masked() {
        let config = Config {
            database_url: Some("postgres://me:hunter2@db/x?password=hunter2".to_owned()),
            s3: S3Config {
                secret_access_key: Some("hunter2".to_owned()),
                endpoint: Some("http://127.0.0.1:9000".to_owned()),
                ..Config::default().s3
            },
            telemetry: TelemetryConfig {
                otlp_endpoint: Some("http://me:hunter2@otel:4317".to_owned()),
                ..Config::default().telemetry
            },
            ..Config::default()
        };
        let shown = config.to_masked_toml().expect("TOML");
        assert!(
            !shown.contains("hunter2")
                && shown.contains("postgres://me:")
                && shown.contains("\"http://127.0.0.1:9000\""),
            "{shown}"
        );
    }
}
