//! What differs between two versions of a definition, as text.
//!
//! Each definition is flattened to field path -> text; the difference of the two maps is the diff that people see.

use std::{collections::BTreeMap, time::Duration};

use mlplat_proto::features::v1::{self as pb, source::Location};

use super::{Definition, View};

/// Field path -> value as text; fields that are not set are left out.
pub(super) type Fields = BTreeMap<String, String>;

/// A definition as text.
pub(super) trait Flatten {
    /// Its fields but name and what the server fills in with each version.
    fn flatten(&self) -> Fields;
}

/// What differs.
pub(super) fn changes<D: Definition + Flatten>(before: &D, after: &D) -> Vec<pb::FieldChange> {
    let (before, after) = (before.flatten(), after.flatten());
    let text = |fields: &Fields, path: &str| fields.get(path).cloned().unwrap_or_default();
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .map(|path| pb::FieldChange {
            field: path.clone(),
            before: text(&before, path),
            after: text(&after, path),
        })
        .filter(|change| change.before != change.after)
        .collect()
}

fn add(fields: &mut Fields, path: impl Into<String>, value: impl Into<String>) {
    let value = value.into();
    if !value.is_empty() {
        fields.insert(path.into(), value);
    }
}

fn described(info: &Option<pb::DefinitionInfo>) -> Fields {
    let mut fields = Fields::new();
    if let Some(info) = info {
        add(&mut fields, "description", &info.description);
        add(&mut fields, "owner", &info.owner);
        for (key, value) in &info.tags {
            fields.insert(format!("tags.{key}"), value.clone());
        }
    }
    fields
}

impl Flatten for pb::Entity {
    fn flatten(&self) -> Fields {
        let mut fields = described(&self.info);
        add(&mut fields, "join_keys", self.join_keys.join(", "));
        fields
    }
}

impl Flatten for pb::Source {
    fn flatten(&self) -> Fields {
        let mut fields = described(&self.info);
        match &self.location {
            Some(Location::Parquet(files)) => add(&mut fields, "parquet.uri", &files.uri),
            Some(Location::Sql(sql)) => add(&mut fields, "sql.query", &sql.query),
            None => {}
        }
        add(&mut fields, "timestamp_column", &self.timestamp_column);
        add(&mut fields, "created_column", &self.created_column);
        for (from, to) in &self.field_mapping {
            add(&mut fields, format!("field_mapping.{from}"), to);
        }
        fields
    }
}

impl Flatten for View {
    fn flatten(&self) -> Fields {
        let view = &self.definition;
        let mut fields = described(&view.info);
        add(&mut fields, "entities", view.entities.join(", "));
        add(&mut fields, "source", &view.source);
        add(&mut fields, "online", view.online.to_string());
        if let Some(ttl) = &view.ttl {
            add(&mut fields, "ttl", duration_text(ttl));
        }
        for feature in &view.features {
            add(
                &mut fields,
                format!("features.{}", feature.name),
                &feature.data_type,
            );
            let path = format!("features.{}.description", feature.name);
            add(&mut fields, path, &feature.description);
        }
        for (key, data_type) in view.join_keys.iter().zip(&self.key_types) {
            add(&mut fields, format!("join_keys.{key}"), data_type);
        }
        // Told only in so far as it differs; what it is says the source.
        add(
            &mut fields,
            "rows_from",
            self.origin.chars().take(12).collect::<String>(),
        );
        fields
    }
}

impl Flatten for pb::OnDemandFeatureView {
    fn flatten(&self) -> Fields {
        let mut fields = described(&self.info);
        add(&mut fields, "inputs", self.inputs.join(", "));
        for column in &self.request_columns {
            let path = format!("request_columns.{}", column.name);
            add(&mut fields, path, &column.data_type);
            let path = format!("request_columns.{}.description", column.name);
            add(&mut fields, path, &column.description);
        }
        for feature in &self.features {
            add(
                &mut fields,
                format!("features.{}", feature.name),
                &feature.data_type,
            );
            let path = format!("features.{}.expression", feature.name);
            add(&mut fields, path, &feature.expression);
        }
        fields
    }
}

impl Flatten for pb::FeatureService {
    fn flatten(&self) -> Fields {
        let mut fields = described(&self.info);
        add(&mut fields, "features", self.features.join(", "));
        fields
    }
}

/// A duration in days, hours, minutes and seconds, e.g. `1d 3h`, `0.5s`.
fn duration_text(duration: &prost_types::Duration) -> String {
    let Ok(duration) = Duration::try_from(*duration) else {
        return format!("{}s", duration.seconds);
    };
    let mut seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= length {
            parts.push(format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    let fraction = format!("{:09}", duration.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        parts.push(format!("{seconds}.{fraction}s"));
    } else if seconds > 0 || parts.is_empty() {
        parts.push(format!("{seconds}s"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(ttl_s: i64, features: &[(&str, &str)]) -> View {
        let features = features.iter().map(|(name, data_type)| pb::Feature {
            name: (*name).to_owned(),
            data_type: (*data_type).to_owned(),
            description: String::new(),
        });
        View {
            definition: pb::FeatureView {
                name: "weather".to_owned(),
                ttl: (ttl_s > 0).then_some(prost_types::Duration {
                    seconds: ttl_s,
                    nanos: 0,
                }),
                features: features.collect(),
                ..Default::default()
            },
            key_types: Vec::new(),
            origin: String::new(),
        }
    }

    #[test]
    fn the_diff_names_what_differs() {
        let before = view(0, &[("temp", "Int64"), ("wind", "Float64")]);
        let after = view(10_800, &[("temp", "Float64"), ("gust", "Float64")]);
        let changes: Vec<_> = changes(&before, &after)
            .into_iter()
            .map(|change| (change.field, change.before, change.after))
            .collect();
        let expected = [
            ("features.gust", "", "Float64"),
            ("features.temp", "Int64", "Float64"),
            ("features.wind", "Float64", ""),
            ("ttl", "", "3h"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(changes, expected);
    }

    #[test]
    fn durations_read_well() {
        let text = |seconds, nanos| duration_text(&prost_types::Duration { seconds, nanos });
        assert_eq!(text(0, 500_000_000), "0.5s");
        assert_eq!(text(97_200, 0), "1d 3h");
        assert_eq!(text(0, 0), "0s");
        assert_eq!(text(61, 1), "1m 1.000000001s");
    }
}
