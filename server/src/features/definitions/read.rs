//! Get and list, the same for every kind of definition.

use super::{Definition, store};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    page::Page,
    request::{Violations, project_name},
};

/// One definition by name; version 0 is the current one.
pub(in crate::features) async fn get<D: Definition>(
    app: &App,
    caller: &Caller,
    project: &str,
    name: &str,
    version: u32,
) -> Result<D> {
    let mut violations = Violations::new();
    if name.is_empty() {
        violations.add(
            "name",
            format!("is empty; give the name of the {}", D::RESOURCE),
        );
    }
    violations.finish()?;
    let scope = caller
        .authorize(app, Action::Read, &project_name(project))
        .await?;
    let version = (version > 0).then(|| i32::try_from(version).unwrap_or(i32::MAX));
    store::get(app.db.read(), &scope, name, version)
        .await?
        .ok_or_else(|| match version {
            None => Error::not_found(D::RESOURCE, name),
            Some(version) => Error::not_found(D::RESOURCE, format!("{name} version {version}")),
        })
}

/// A page of definitions by name, and the token of the next one.
pub(in crate::features) async fn list<D: Definition>(
    app: &App,
    caller: &Caller,
    project: &str,
    page_size: u32,
    page_token: &str,
) -> Result<(Vec<D>, String)> {
    let mut violations = Violations::new();
    let project = project_name(project);
    let fingerprint = [D::KIND.as_str_name(), &project];
    let page = Page::parse(&mut violations, page_size, page_token, &fingerprint);
    violations.finish()?;
    let scope = caller.authorize(app, Action::Read, &project).await?;
    let after = page.after().and_then(|cursor| cursor.first());
    let mut found: Vec<D> = store::list(
        app.db.read(),
        &scope,
        after.map(String::as_str),
        page.limit() + 1,
    )
    .await?;
    let next = page.cut(&mut found, |last| vec![last.name().to_owned()]);
    Ok((found, next))
}
