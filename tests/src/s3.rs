//! An S3 server in the process: s3s over a folder.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mlplat_server::config::S3Config;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";

/// A running S3 server.
#[derive(Debug)]
pub struct TestS3 {
    folder: TempDir,
    address: SocketAddr,
    task: JoinHandle<()>,
    presigned: Arc<AtomicUsize>,
}

impl TestS3 {
    /// Starts a server with these buckets.
    pub async fn start(buckets: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for bucket in buckets {
            std::fs::create_dir(folder.path().join(bucket)).expect("a bucket");
        }
        let mut builder =
            S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let presigned = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&presigned);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, counted) = (service.clone(), Arc::clone(&counter));
                let service = hyper::service::service_fn(
                    move |request: hyper::Request<hyper::body::Incoming>| {
                        let query = request.uri().query().unwrap_or_default();
                        if query.contains("X-Amz-Signature=") {
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        hyper::service::Service::call(&service, request)
                    },
                );
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is not our concern.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            folder,
            address,
            task,
            presigned,
        }
    }

    /// The settings by which a server reaches it.
    pub fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("http://{}", self.address)),
            region: Some("us-east-1".to_owned()),
            path_style: true,
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(SECRET_KEY.to_owned()),
        }
    }

    /// Requests so far by URLs that somebody else has signed.
    pub fn presigned(&self) -> &AtomicUsize {
        &self.presigned
    }

    /// Where the objects of a bucket are files.
    pub fn bucket_folder(&self, bucket: &str) -> std::path::PathBuf {
        self.folder.path().join(bucket)
    }
}

impl Drop for TestS3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}
