//! The handle to a server, as Python holds it: usable from any thread, and in a process that was forked off.

use std::time::Duration;

use mlplat::admin;
use pyo3::{prelude::*, types::PyModule};

use crate::{call::Call, errors::raise, runtime::PerProcess};

/// A server and a project. Making one does not touch the network.
#[pyclass(frozen, module = "mlplat._native")]
pub(crate) struct Client(PerProcess<mlplat::Client>);

impl Client {
    /// The client of this process.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<mlplat::Client> {
        self.0.get(py, |old| rebuilt(py, old))
    }
}

/// A client like this one with a connection of its own.
pub(crate) fn rebuilt(py: Python<'_>, old: &mlplat::Client) -> PyResult<mlplat::Client> {
    old.to_builder().build().map_err(|e| raise(py, &e))
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (url, project, timeout=None, user_agent=None))]
    fn new(
        py: Python<'_>,
        url: Option<String>,
        project: Option<String>,
        timeout: Option<Duration>,
        user_agent: Option<String>,
    ) -> PyResult<Self> {
        let mut builder = mlplat::Client::builder().from_env();
        if let Some(url) = url {
            builder = builder.url(url);
        }
        if let Some(project) = project {
            builder = builder.project(project);
        }
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(user_agent) = user_agent {
            builder = builder.user_agent(user_agent);
        }
        let client = builder.build().map_err(|e| raise(py, &e))?;
        Ok(Self(PerProcess::new(py, client)))
    }

    /// Address of the server.
    #[getter]
    fn url(&self) -> String {
        self.0.peek(|client| client.url().to_owned())
    }

    /// Project that the calls work in.
    #[getter]
    fn project(&self) -> String {
        self.0.peek(|client| client.project().to_owned())
    }

    fn __repr__(&self) -> String {
        self.0
            .peek(|client| format!("Client({:?}, project={:?})", client.url(), client.project()))
    }
}

/// What a server says of itself.
#[pyclass(frozen, get_all, eq, module = "mlplat")]
#[derive(PartialEq)]
struct ServerInfo {
    /// Version of the server.
    version: String,
    /// Name of the installation, part of every OpenLineage job namespace.
    instance: String,
    /// Largest message that the server takes, in bytes.
    max_message_bytes: u64,
    /// The caller as the server sees it.
    caller: String,
}

#[pymethods]
impl ServerInfo {
    fn __repr__(&self) -> String {
        format!(
            "ServerInfo(version={:?}, instance={:?}, caller={:?})",
            self.version, self.instance, self.caller
        )
    }
}

/// Asks the server what it is.
#[pyfunction]
fn server_info(py: Python<'_>, client: &Client) -> PyResult<Call> {
    let admin = client.get(py)?.admin();
    Ok(Call::new(async move {
        let admin::ServerInfo {
            version,
            instance,
            max_message_bytes,
            caller,
            ..
        } = admin.server_info().await?;
        Ok(ServerInfo {
            version,
            instance,
            max_message_bytes,
            caller,
        })
    }))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()?;
    module.add_class::<ServerInfo>()?;
    module.add_function(wrap_pyfunction!(server_info, module)?)
}
