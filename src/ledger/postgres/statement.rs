//! Statements: prepared once for each connection, or sent whole each time where a pooler gives every
//! transaction another one, so that nothing of them stays there.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::fault::Fault;

pub(super) struct Statement {
    sql: String,
    types: &'static [Type],
    prepared: Option<tokio_postgres::Statement>,
}

/// Makes the statements of one connection.
pub(super) struct Maker<'a> {
    pub(super) client: &'a Client,
    pub(super) prepares: bool,
    /// Who this proxy is in the table of payments.
    pub(super) owner: i64,
}

impl Maker<'_> {
    /// A statement with values of these types.
    pub(super) async fn make(&self, sql: &str, types: &'static [Type]) -> Result<Statement, Fault> {
        let prepared = match self.prepares {
            true => Some(self.client.prepare_typed(sql, types).await?),
            false => None,
        };
        Ok(Statement {
            sql: sql.to_owned(),
            types,
            prepared,
        })
    }
}

type Values<'a> = [&'a (dyn ToSql + Sync)];

impl Statement {
    pub(super) async fn query(
        &self,
        client: &Client,
        values: &Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        match &self.prepared {
            Some(prepared) => client.query(prepared, values).await,
            None => client.query_typed(&self.sql, &self.typed(values)).await,
        }
    }

    pub(super) async fn execute(&self, client: &Client, values: &Values<'_>) -> Result<u64, Error> {
        match &self.prepared {
            Some(prepared) => client.execute(prepared, values).await,
            None => client.execute_typed(&self.sql, &self.typed(values)).await,
        }
    }

    fn typed<'a>(&self, values: &Values<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        let types = self.types.iter().cloned();
        values.iter().copied().zip(types).collect()
    }
}
