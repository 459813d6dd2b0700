//! The feature store.

mod apply;
mod definitions;
mod historical;
mod materialize;
mod online;
mod read;

use pyo3::{prelude::*, types::PyModule};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<apply::FieldChange>()?;
    module.add_class::<apply::Change>()?;
    module.add_class::<apply::Diff>()?;
    module.add_class::<historical::Retrieved>()?;
    module.add_class::<historical::Snapshots>()?;
    module.add_class::<materialize::Materialized>()?;
    module.add_class::<online::OnlineAnswer>()?;
    module.add_function(wrap_pyfunction!(apply::apply, module)?)?;
    module.add_function(wrap_pyfunction!(historical::historical, module)?)?;
    module.add_function(wrap_pyfunction!(materialize::materialize, module)?)?;
    module.add_function(wrap_pyfunction!(online::online, module)?)?;
    module.add_function(wrap_pyfunction!(read::list_entities, module)?)?;
    module.add_function(wrap_pyfunction!(read::list_sources, module)?)?;
    module.add_function(wrap_pyfunction!(read::list_feature_views, module)?)?;
    module.add_function(wrap_pyfunction!(
        read::list_on_demand_feature_views,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(read::list_feature_services, module)?)?;
    module.add_function(wrap_pyfunction!(read::get_feature_view, module)?)
}
