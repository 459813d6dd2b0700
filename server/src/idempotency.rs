//! Remembered answers: a create that is sent again with its `request_id` gets the first answer.
//!
//! Invariant: the answer is remembered in the transaction of the change itself. It knows no service.

use prost::Message;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _,
    prelude::Uuid,
};

use crate::{
    auth::Scope,
    clock::Timestamp,
    error::{Error, Result},
    request::{self, Violations},
};

/// Answers are kept this long at least.
const RETENTION_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Table `idempotency`.
mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub owner_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub subject: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub method: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub request_id: Uuid,
        pub request: Vec<u8>,
        pub response: Vec<u8>,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The `request_id` of a create; `None` when it has none.
pub type Key = Option<Uuid>;

/// Reads a `request_id`.
pub fn key(violations: &mut Violations, request_id: &str) -> Key {
    request::optional_uuid(violations, "request_id", request_id)
}

/// The remembered answer, if this request was answered before.
pub async fn replay<R: Message + Default, Q: Message + Default + PartialEq>(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    method: &'static str,
    key: Key,
    request: &Q,
) -> Result<Option<R>> {
    let Some(request_id) = key else {
        return Ok(None);
    };
    let found = entity::Entity::find_by_id((
        scope.project_id(),
        scope.subject().to_owned(),
        method.to_owned(),
        request_id,
    ))
    .one(txn)
    .await?;
    let Some(row) = found else { return Ok(None) };
    // Compared as messages, for the bytes of a map have no fixed order.
    if Q::decode(row.request.as_slice()).map_err(Error::internal)? != *request {
        return Err(Error::invalid(
            "request_id",
            "was used before with another request; make a new one",
        ));
    }
    R::decode(row.response.as_slice())
        .map(Some)
        .map_err(Error::internal)
}

/// Remembers an answer, and forgets old ones.
pub async fn remember(
    txn: &impl ConnectionTrait,
    scope: &Scope,
    method: &'static str,
    key: Key,
    request: &impl Message,
    response: &impl Message,
    now: Timestamp,
) -> Result<()> {
    let Some(request_id) = key else { return Ok(()) };
    entity::Entity::delete_many()
        .filter(entity::Column::CreatedAt.lt(now.micros() - RETENTION_MICROS))
        .exec(txn)
        .await?;
    let row = entity::ActiveModel {
        owner_id: Set(scope.project_id()),
        subject: Set(scope.subject().to_owned()),
        method: Set(method.to_owned()),
        request_id: Set(request_id),
        request: Set(request.encode_to_vec()),
        response: Set(response.encode_to_vec()),
        created_at: Set(now.micros()),
    };
    entity::Entity::insert(row)
        .exec_without_returning(txn)
        .await?;
    Ok(())
}
