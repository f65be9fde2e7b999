//! The API, described for programs (OpenAPI 3.1): drawn from the table of routes, with the schemas of
//! what goes in and comes out beside it.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::query::PAGE_MAX;
use super::routes::{Op, ROUTES, Route};

/// The schemas, a file for each part.
const SCHEMAS: [&str; 3] = [
    include_str!("openapi/payments.json"),
    include_str!("openapi/limits.json"),
    include_str!("openapi/control.json"),
];

/// The document.
pub(super) fn document() -> String {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| describe().to_string() + "\n");
    DOCUMENT.clone()
}

fn describe() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(format!("/api/v1/{}", route.path));
        let path = path.or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            let method = route.method.to_ascii_lowercase();
            methods.insert(method, operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Farepass admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Of the operator's listener. Field names are those of spend events. Money is text: a decimal number and its currency.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The contents of admin.token in the state directory.",
                },
            },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Map<String, Value> {
    let read = |text: &&str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    SCHEMAS.iter().flat_map(read).collect()
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": format!("{:?}{}", route.op, again(route)),
        "summary": route.doc,
        "parameters": parameters(route),
        "responses": {
            route.status.to_string(): answer(route),
            "default": problem("Why it was not done (RFC 9457)."),
        },
    });
    let Value::Object(members) = &mut operation else {
        return operation;
    };
    if route.op == Op::Describe {
        members.insert("security".into(), json!([]));
    }
    if named(route)
        && let Some(Value::Object(responses)) = members.get_mut("responses")
    {
        let missing = problem("There is nothing of that name (RFC 9457).");
        responses.insert("404".into(), missing);
    }
    if let Some(name) = route.body {
        // These have defaults for everything.
        let required = !matches!(route.op, Op::OpenSession | Op::Reload);
        let content = json!({ "application/json": { "schema": schema(name) } });
        let body = json!({ "required": required, "content": content });
        members.insert("requestBody".into(), body);
    }
    operation
}

/// Does it speak of one thing, by the id in its path or by those in its body?
fn named(route: &Route) -> bool {
    route.path.contains('{') || route.op == Op::Reconcile
}

fn problem(why: &str) -> Value {
    let content = json!({ "application/problem+json": { "schema": schema("Problem") } });
    json!({ "description": why, "content": content })
}

/// An id is for one operation; two routes may do the same.
fn again(route: &Route) -> &'static str {
    let first = ROUTES.iter().find(|r| r.op == route.op);
    match first.is_some_and(|first| first.path == route.path && first.method == route.method) {
        true => "",
        false => "Too",
    }
}

fn answer(route: &Route) -> Value {
    let content = match route.op {
        Op::Events => json!({ "text/event-stream": { "schema": schema(route.answer) } }),
        _ => json!({ "application/json": { "schema": schema(route.answer) } }),
    };
    json!({ "description": "Done.", "content": content })
}

/// A schema by name, or a list of it.
fn schema(name: &str) -> Value {
    let one = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(name) => json!({ "type": "array", "items": one(name) }),
        None => one(name),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let segments = route.path.split('/');
    let variable = |s: &str| Some(s.strip_prefix('{')?.strip_suffix('}')?.to_owned());
    let in_path = segments.filter_map(variable).map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.query.iter().map(|name| {
        let (doc, schema) = parameter(name);
        json!({ "name": name, "in": "query", "description": doc, "schema": schema })
    });
    let mut all: Vec<Value> = in_path.chain(in_query).collect();
    if route.op == Op::Events {
        all.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "Number of the record that was seen last; without it the stream begins now, and so it does, with a notice `missed`, where the ledger has no such record yet.",
            "schema": { "type": "integer", "minimum": 0 },
        }));
    }
    all
}

fn parameter(name: &str) -> (&'static str, Value) {
    let text = json!({ "type": "string" });
    match name {
        "session" => ("Only this session.", text),
        "agent" => ("Only this agent.", text),
        "host" => (
            "Only this host, with its port when that is not the default.",
            text,
        ),
        "rule" => ("Only what this rule decided.", text),
        "reason" => ("Only with this code of a reason.", text),
        "state" => (
            "Only what is in this state now.",
            json!({ "$ref": "#/components/schemas/State" }),
        ),
        "denied" => (
            "Also refusals.",
            json!({ "type": "boolean", "default": false }),
        ),
        _ => (
            "At most so many.",
            json!({ "type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 100 }),
        ),
    }
}
