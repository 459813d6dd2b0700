//! The server under test, in the process of the test.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use mlplat::Client;
use mlplat_server::{
    app::App,
    auth::{Authenticator, Caller},
    clock::{Clock, SystemClock},
    config::Config,
    serve::Server,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    metadata::MetadataValue, service::interceptor::InterceptedService, transport::Channel,
};

use crate::database::TestDatabase;

/// Metadata key that says who calls: `anonymous`, or any subject. Absent: the owner.
pub const CALLER: &str = "x-test-caller";

/// Believes what the test says of the caller.
#[derive(Debug)]
struct TestAuthenticator;

impl Authenticator for TestAuthenticator {
    fn caller(&self, headers: &http::HeaderMap) -> mlplat_server::Result<Option<Caller>> {
        Ok(
            match headers.get(CALLER).and_then(|value| value.to_str().ok()) {
                None => Some(Caller::local_owner()),
                Some("anonymous") => None,
                Some(subject) => Some(Caller::new(subject)),
            },
        )
    }
}

/// How a test server differs from the default.
#[derive(Debug)]
pub struct TestServerBuilder {
    config: Config,
    clock: Arc<dyn Clock>,
}

impl TestServerBuilder {
    /// Changes the settings.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Uses another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts it on a port of its own.
    pub async fn start(mut self) -> TestServer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = TestDatabase::create(folder.path())
            .await
            .expect("a database");
        self.config.data_dir = folder.path().join("data");
        self.config.database_url = Some(database.url().to_owned());
        let mut server = TestServer {
            config: self.config,
            clock: self.clock,
            database,
            folder,
            running: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        server.run().await;
        server
    }
}

/// A server that runs in this process, with data of its own.
#[derive(Debug)]
pub struct TestServer {
    config: Config,
    clock: Arc<dyn Clock>,
    database: TestDatabase,
    folder: TempDir,
    running: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
    address: SocketAddr,
}

impl TestServer {
    /// A server with the defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server that differs.
    pub fn builder() -> TestServerBuilder {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        config.limits.database_connections = 4;
        TestServerBuilder {
            config,
            clock: Arc::new(SystemClock),
        }
    }

    async fn run(&mut self) {
        let app = App::open(self.config.clone(), Arc::clone(&self.clock))
            .await
            .expect("the app opens");
        let server = Server::bind(Arc::new(app), Arc::new(TestAuthenticator))
            .await
            .expect("the server binds");
        self.address = server.address().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            // A dropped sender stops it as well.
            let _ = stopped.await;
        }));
        self.running = Some((stop, task));
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// URL of its database, for tests that fill it by themselves.
    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    /// A folder that lives as long as the server, for files of the test.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The Rust SDK, as the owner.
    pub fn client(&self) -> Client {
        self.client_at("home")
    }

    /// The Rust SDK with the journal in a folder of this name, as another process of another machine would have it.
    pub fn client_at(&self, home: &str) -> Client {
        let builder = Client::builder().url(self.url());
        let home = builder.journal_home(self.folder().join(home));
        home.build().expect("a client")
    }

    /// A plain connection, as the owner.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url())
            .expect("a URL")
            .connect()
            .await
            .expect("a connection")
    }

    /// A plain connection of another caller: `anonymous`, or any subject (which has no role anywhere).
    pub async fn channel_as(
        &self,
        caller: &'static str,
    ) -> InterceptedService<Channel, impl tonic::service::Interceptor + Clone + use<>> {
        InterceptedService::new(
            self.channel().await,
            move |mut request: tonic::Request<()>| {
                request
                    .metadata_mut()
                    .insert(CALLER, MetadataValue::from_static(caller));
                Ok(request)
            },
        )
    }

    /// Stops it in good order, and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.stop_running().await;
        self.run().await;
    }

    /// Stops it, and removes its data.
    pub async fn stop(mut self) {
        self.stop_running().await;
        self.database
            .clone()
            .drop()
            .await
            .expect("the database is removed");
    }

    async fn stop_running(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            let _ = stop.send(());
            task.await.expect("no panic").expect("a good end");
        }
    }
}
