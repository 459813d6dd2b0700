//! Which changes would break somebody: a feature that changes its type or goes away while it is used.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::ConnectionTrait;

use super::{Catalog, View, names::split};
use crate::{
    auth::Scope,
    error::{Error, Result},
    features::store::used_features,
};

/// What happens to a feature that others may rely on.
#[derive(Debug, PartialEq, Eq)]
struct Break {
    view: String,
    feature: String,
    what: String,
}

/// Refuses changes that break a feature service, or training sets that were made.
pub(super) async fn check(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    current: &Catalog,
    desired: &Catalog,
) -> Result<()> {
    let breaks = breaks(current, desired);
    if breaks.is_empty() {
        return Ok(());
    }
    let views: BTreeSet<&str> = breaks.iter().map(|b| b.view.as_str()).collect();
    let used = used_features(connection, scope, &views).await?;
    let mut texts = Vec::new();
    for broken in &breaks {
        if let Some(user) = user(broken, desired, &used) {
            let Break {
                view,
                feature,
                what,
            } = broken;
            texts.push(format!("`{view}:{feature}` {what}, but {user}"));
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{}; give the feature a new name, or apply with force",
        texts.join("; ")
    );
    Err(Error::precondition("INCOMPATIBLE_CHANGE", text))
}

fn user(
    broken: &Break,
    desired: &Catalog,
    used: &BTreeMap<String, BTreeSet<String>>,
) -> Option<String> {
    let mut services = desired.services.values();
    let service = services.find(|service| {
        service.features.iter().any(|reference| {
            split(reference) == Some((broken.view.as_str(), broken.feature.as_str()))
        })
    });
    if let Some(service) = service {
        return Some(format!("feature service `{}` names it", service.name));
    }
    used.get(&broken.view)
        .is_some_and(|features| features.contains(&broken.feature))
        .then(|| "training sets were made with it".to_owned())
}

fn breaks(current: &Catalog, desired: &Catalog) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut note = |view: &str, feature: &str, what: String| {
        breaks.push(Break {
            view: view.to_owned(),
            feature: feature.to_owned(),
            what,
        });
    };
    let features = |view: &View| -> BTreeMap<String, String> {
        let features = view.definition.features.iter();
        features
            .map(|f| (f.name.clone(), f.data_type.clone()))
            .collect()
    };
    let mut compare =
        |view: &str, before: BTreeMap<String, String>, after: BTreeMap<String, String>| {
            for (feature, was) in before {
                match after.get(&feature) {
                    None => note(view, &feature, "is removed".to_owned()),
                    Some(is) if *is != was => {
                        note(view, &feature, format!("changes from {was} to {is}"))
                    }
                    Some(_) => {}
                }
            }
        };
    for (name, before) in &current.views {
        let after = desired.views.get(name).map(features).unwrap_or_default();
        compare(name, features(before), after);
    }
    for (name, before) in &current.on_demand_views {
        let of =
            |view: &mlplat_proto::features::v1::OnDemandFeatureView| -> BTreeMap<String, String> {
                let features = view.features.iter();
                features
                    .map(|f| (f.name.clone(), f.data_type.clone()))
                    .collect()
            };
        let after = desired
            .on_demand_views
            .get(name)
            .map(of)
            .unwrap_or_default();
        compare(name, of(before), after);
    }
    breaks
}

#[cfg(test)]
mod tests {
    use mlplat_proto::features::v1 as pb;

    use super::*;

    fn catalog(features: &[(&str, &str)]) -> Catalog {
        let features = features.iter().map(|(name, data_type)| pb::Feature {
            name: (*name).to_owned(),
            data_type: (*data_type).to_owned(),
            description: String::new(),
        });
        let view = View {
            definition: pb::FeatureView {
                name: "weather".to_owned(),
                features: features.collect(),
                ..Default::default()
            },
            key_types: Vec::new(),
            origin: String::new(),
        };
        let mut catalog = Catalog::default();
        catalog.views.insert("weather".to_owned(), view);
        catalog
    }

    #[test]
    fn additions_break_nothing() {
        let before = catalog(&[("temp", "Int64")]);
        assert!(breaks(&before, &catalog(&[("temp", "Int64"), ("wind", "Utf8")])).is_empty());
        let found = breaks(&before, &catalog(&[("temp", "Float64")]));
        assert_eq!(found[0].what, "changes from Int64 to Float64");
        assert_eq!(breaks(&before, &Catalog::default())[0].what, "is removed");
    }

    #[test]
    fn only_what_is_used_is_protected() {
        let mut desired = catalog(&[]);
        let broken = Break {
            view: "weather".to_owned(),
            feature: "temp".to_owned(),
            what: String::new(),
        };
        assert_eq!(user(&broken, &desired, &BTreeMap::new()), None);
        let used = [("weather".to_owned(), BTreeSet::from(["temp".to_owned()]))].into();
        assert!(user(&broken, &desired, &used).is_some());
        let service = pb::FeatureService {
            name: "all".to_owned(),
            features: vec!["weather:temp".to_owned()],
            info: None,
        };
        desired.services.insert("all".to_owned(), service);
        assert!(user(&broken, &desired, &BTreeMap::new()).is_some());
    }
}
