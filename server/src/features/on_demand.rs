//! On-demand features: SQL expressions over joined features and columns of the request, of one row.
//!
//! Invariant: training and serving run this same code, and an expression gives the same for the same row whenever it runs.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{DFSchema, tree_node::TreeNode as _},
    error::DataFusionError,
    logical_expr::{Expr, Volatility},
    physical_expr::PhysicalExpr,
    prelude::{SessionConfig, SessionContext},
};
use mlplat_proto::features::v1 as pb;

use super::{
    definitions::{Catalog, names::split},
    sql::{MAX_EXPRESSION_OPERATORS, check_operators},
};
use crate::error::{Error, Result};

/// An on-demand feature view, ready to be evaluated.
#[derive(Debug)]
pub(super) struct OnDemand {
    name: String,
    schema: SchemaRef,
    /// Where each column of the schema comes from.
    columns: Vec<Origin>,
    inputs: Vec<(String, String)>,
    request_columns: Vec<(String, DataType)>,
    features: Vec<Computed>,
}

#[derive(Debug, Clone, Copy)]
enum Origin {
    Input(usize),
    Request(usize),
}

#[derive(Debug)]
struct Computed {
    name: String,
    expression: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

/// Bad fields of the view: path and what is wrong.
type Complaints = Vec<(String, String)>;

impl OnDemand {
    /// Plans the expressions of a view.
    pub(super) fn compile(
        view: &pb::OnDemandFeatureView,
        catalog: &Catalog,
    ) -> Result<Self, Complaints> {
        let mut complaints = Complaints::new();
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        let (inputs, types) = inputs(view, catalog, &mut complaints);
        let mut count: HashMap<&str, usize> = HashMap::new();
        for (_, feature) in &inputs {
            *count.entry(feature).or_default() += 1;
        }
        for (at, ((input_view, feature), data_type)) in inputs.iter().zip(&types).enumerate() {
            // Both names are good; the short one only where it says which feature is meant.
            fields.push(Field::new(
                format!("{input_view}__{feature}"),
                data_type.clone(),
                true,
            ));
            columns.push(Origin::Input(at));
            if count.get(feature.as_str()) == Some(&1) {
                fields.push(Field::new(feature, data_type.clone(), true));
                columns.push(Origin::Input(at));
            }
        }
        let mut request_columns = Vec::new();
        for (at, column) in view.request_columns.iter().enumerate() {
            match column.data_type.parse::<DataType>() {
                Ok(data_type) => {
                    if fields.iter().any(|field| field.name() == &column.name) {
                        let text =
                            format!("`{}` is an input as well; rename one of them", column.name);
                        complaints.push((format!("request_columns[{at}].name"), text));
                    }
                    fields.push(Field::new(&column.name, data_type.clone(), true));
                    columns.push(Origin::Request(at));
                    request_columns.push((column.name.clone(), data_type));
                }
                Err(_) => {
                    let text = format!(
                        "`{}` is not an Arrow type; write for example Int64, Float64, Utf8 or Timestamp(µs, \"UTC\")",
                        column.data_type
                    );
                    complaints.push((format!("request_columns[{at}].data_type"), text));
                }
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let schema = Arc::new(Schema::new(fields));
        let mut features = Vec::new();
        for (at, feature) in view.features.iter().enumerate() {
            match compute(feature, &schema) {
                Ok(computed) => features.push(computed),
                Err(text) => complaints.push((format!("features[{at}].expression"), text)),
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        Ok(Self {
            name: view.name.clone(),
            schema,
            columns,
            inputs,
            request_columns,
            features,
        })
    }

    /// The features that it reads: view and feature.
    pub(super) fn inputs(&self) -> &[(String, String)] {
        &self.inputs
    }

    /// The columns that the request must have, with their types.
    pub(super) fn request_columns(&self) -> &[(String, DataType)] {
        &self.request_columns
    }

    /// The types of its features.
    pub(super) fn types(&self) -> impl Iterator<Item = &DataType> {
        self.features.iter().map(|feature| &feature.data_type)
    }

    /// Position and type of a feature.
    pub(super) fn feature(&self, name: &str) -> Option<(usize, &DataType)> {
        let at = self
            .features
            .iter()
            .position(|feature| feature.name == name)?;
        Some((at, &self.features[at].data_type))
    }

    /// The features of some rows. `inputs` and `request` are in the order of [`OnDemand::inputs`] and
    /// [`OnDemand::request_columns`], with their types.
    pub(super) fn evaluate(
        &self,
        inputs: &[ArrayRef],
        request: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<ArrayRef>> {
        let columns = self.columns.iter().map(|origin| match origin {
            Origin::Input(at) => inputs[*at].clone(),
            Origin::Request(at) => request[*at].clone(),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns.collect(), &options)
                .map_err(Error::internal)?;
        let each = self.features.iter().map(|feature| {
            let value = feature.expression.evaluate(&batch);
            value
                .and_then(|value| value.into_array(rows))
                .map_err(|error| self.failed(feature, &error))
        });
        each.collect()
    }

    fn failed(&self, feature: &Computed, error: &DataFusionError) -> Error {
        let (view, name) = (&self.name, &feature.name);
        let text = error.find_root().strip_backtrace();
        Error::precondition(
            "EXPRESSION_FAILED",
            format!("on-demand feature `{view}:{name}` cannot be computed: {text}"),
        )
    }
}

/// The inputs with their types.
fn inputs(
    view: &pb::OnDemandFeatureView,
    catalog: &Catalog,
    complaints: &mut Complaints,
) -> (Vec<(String, String)>, Vec<DataType>) {
    let mut inputs = Vec::new();
    let mut types = Vec::new();
    for (at, reference) in view.inputs.iter().enumerate() {
        let found = split(reference).and_then(|(view, feature)| {
            let definition = catalog.views.get(view)?.feature(feature)?;
            let data_type = definition.data_type.parse::<DataType>().ok()?;
            Some(((view.to_owned(), feature.to_owned()), data_type))
        });
        match found {
            Some((input, data_type)) => {
                inputs.push(input);
                types.push(data_type);
            }
            None => {
                let text = format!("there is no feature `{reference}` of a feature view");
                complaints.push((format!("inputs[{at}]"), text));
            }
        }
    }
    (inputs, types)
}

fn compute(feature: &pb::OnDemandFeature, schema: &SchemaRef) -> Result<Computed, String> {
    let text = |error: DataFusionError| error.find_root().strip_backtrace();
    check_operators(&feature.expression, MAX_EXPRESSION_OPERATORS)?;
    let columns = DFSchema::try_from(schema.clone()).map_err(text)?;
    let context = context();
    let expression = context
        .parse_sql_expr(&feature.expression, &columns)
        .map_err(text)?;
    require_row_expression(&expression)?;
    let expression = context
        .create_physical_expr(expression, &columns)
        .map_err(text)?;
    let data_type = expression.data_type(schema).map_err(text)?;
    Ok(Computed {
        name: feature.name.clone(),
        expression,
        data_type,
    })
}

/// Refuses what is not a function of one row.
fn require_row_expression(expression: &Expr) -> Result<(), String> {
    let mut complaint = None;
    let walked = expression.exists(|part| {
        complaint = match part {
            Expr::AggregateFunction(_) => {
                Some("aggregates look at many rows; compute them in a SQL source".to_owned())
            }
            Expr::WindowFunction(_) => {
                Some("window functions look at many rows; use a SQL source".to_owned())
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                Some("queries are not possible here; use a SQL source".to_owned())
            }
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                Some(format!(
                    "{}() gives something else every time, so that training and serving would differ; pass it as a request \
                     column",
                    call.name()
                ))
            }
            _ => None,
        };
        Ok(complaint.is_some())
    });
    match (walked, complaint) {
        (_, Some(complaint)) => Err(complaint),
        (Err(error), None) => Err(error.strip_backtrace()),
        (Ok(_), None) => Ok(()),
    }
}

/// Functions and settings of expressions; made once, for making it takes longer than planning.
fn context() -> &'static SessionContext {
    static CONTEXT: OnceLock<SessionContext> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        SessionContext::new_with_config(config)
    })
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray as _, Float64Array, Int64Array},
        datatypes::Float64Type,
    };

    use super::*;
    use crate::features::definitions::View;

    fn catalog() -> Catalog {
        let feature = |name: &str, data_type: &str| pb::Feature {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            description: String::new(),
        };
        let mut catalog = Catalog::default();
        for view in ["home", "away"] {
            let definition = pb::FeatureView {
                name: view.to_owned(),
                features: vec![
                    feature("temp", "Float64"),
                    feature(&format!("{view}_n"), "Int64"),
                ],
                ..Default::default()
            };
            let view_of = View {
                definition,
                key_types: Vec::new(),
                origin: "o".to_owned(),
            };
            catalog.views.insert(view.to_owned(), view_of);
        }
        catalog
    }

    fn view(inputs: &[&str], expression: &str) -> pb::OnDemandFeatureView {
        pb::OnDemandFeatureView {
            name: "derived".to_owned(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            request_columns: vec![pb::Feature {
                name: "extra".to_owned(),
                data_type: "Int64".to_owned(),
                description: String::new(),
            }],
            features: vec![pb::OnDemandFeature {
                name: "f".to_owned(),
                expression: expression.to_owned(),
                data_type: String::new(),
            }],
            info: None,
        }
    }

    #[test]
    fn expressions_see_inputs_and_request_columns() {
        let inputs = ["home:temp", "away:temp", "home:home_n"];
        let expression = "(home__temp - away__temp) * home_n + extra";
        let compiled = OnDemand::compile(&view(&inputs, expression), &catalog()).unwrap();
        assert_eq!(compiled.feature("f"), Some((0, &DataType::Float64)));
        let floats =
            |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        let ints = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let result = compiled
            .evaluate(
                &[
                    floats(vec![Some(3.0), None]),
                    floats(vec![Some(1.0), Some(1.0)]),
                    ints(vec![10, 10]),
                ],
                &[ints(vec![5, 5])],
                2,
            )
            .unwrap();
        let values: Vec<_> = result[0].as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(25.0), None]);
    }

    #[test]
    fn what_is_not_a_function_of_a_row_is_refused() {
        for bad in [
            "sum(home_n)",
            "now()",
            "random()",
            "nothing + 1",
            "1 +",
            "(SELECT 1)",
        ] {
            let found = OnDemand::compile(&view(&["home:home_n"], bad), &catalog()).unwrap_err();
            assert_eq!(found[0].0, "features[0].expression", "{bad}");
        }
        let ambiguous = view(&["home:temp", "away:temp"], "temp");
        assert!(OnDemand::compile(&ambiguous, &catalog()).is_err());
    }
}
