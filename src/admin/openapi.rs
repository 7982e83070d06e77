//! The API as an OpenAPI description (3.1): every path with its methods, what it takes and what it answers. Tests hold it
//! against the routes and against real answers.

use axum::Json;
use serde_json::{Map, Value, json};

use super::shapes::{schema, shapes};

/// Something that can be asked.
struct Operation {
    method: Method,
    path: &'static str,
    summary: &'static str,
    /// Whether over the socket only; over TCP it is refused.
    changes: bool,
    /// Where it changes something: whether over TCP it can be asked for with a token.
    takes_token: bool,
    /// What may stand in its query.
    query: &'static [Parameter],
    /// The shape of its body.
    body: Option<&'static str>,
    answer: Answer,
    /// Statuses of problems.
    problems: &'static [u16],
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
}

/// A key of a query.
enum Parameter {
    /// A number, at most once.
    Number(&'static str),
    /// Text, at most once.
    Text(&'static str),
    /// The same, which has to be there.
    Needed(&'static str),
    /// Text, as often as it likes.
    Texts(&'static str),
}

enum Answer {
    /// JSON of this shape.
    Json(&'static str),
    /// Anything, as this type.
    Other(&'static str),
    /// Lines of text; also with status 503.
    Readiness,
}

/// The whole description.
pub fn description() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let methods = paths
            .entry(operation.path)
            .or_insert_with(|| json!({ "parameters": parameters(operation.path) }));
        methods[operation.method.as_str()] = operation.description();
    }
    let schemas: Map<_, _> = shapes()
        .map(|shape| (shape.name().to_owned(), schema(shape)))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "balancer",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a running balancer tells, and what it can be told. On admin.address, where everything is only read, and on admin.socket.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// `GET /api/v1/openapi.json`
pub(super) async fn serve() -> Json<Value> {
    Json(description())
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

impl Operation {
    fn description(&self) -> Value {
        let mut responses = Map::new();
        match &self.answer {
            Answer::Json(shape) => {
                responses.insert(
                    "200".to_owned(),
                    content("application/json", reference(shape)),
                );
            }
            Answer::Other(kind) => {
                responses.insert("200".to_owned(), content(kind, json!({ "type": "string" })));
            }
            Answer::Readiness => {
                for status in ["200", "503"] {
                    let text = content("text/plain", json!({ "type": "string" }));
                    responses.insert(status.to_owned(), text);
                }
            }
        }
        let over_tcp: &[u16] = match (self.changes, self.takes_token) {
            (true, true) => &[401, 403, 429],
            (true, false) => &[403],
            (false, _) => &[],
        };
        let by_name = self.is_asked_by_name().then_some(421);
        let of_body: &[u16] = if self.body.is_some() { &OF_BODIES } else { &[] };
        let problems = self.problems.iter().chain(of_body).copied();
        for status in problems.chain(over_tcp.iter().copied()).chain(by_name) {
            let problem = content("application/problem+json", reference("Problem"));
            responses.insert(status.to_string(), problem);
        }
        let mut description = json!({ "summary": self.summary, "responses": responses });
        if self.takes_token {
            // Over the socket it takes none.
            description["security"] = json!([{ "token": [] }, {}]);
        }
        if let Some(shape) = self.body {
            description["requestBody"] = json!({
                "required": false,
                "content": { "application/json": { "schema": reference(shape) } },
            });
        }
        if !self.query.is_empty() {
            description["parameters"] = self.query.iter().map(Parameter::description).collect();
        }
        description
    }

    /// Whether over TCP it matters by which name it is asked for.
    fn is_asked_by_name(&self) -> bool {
        !matches!(self.path, "/livez" | "/readyz")
    }
}

impl Parameter {
    fn description(&self) -> Value {
        let text = json!({ "type": "string" });
        let (name, schema) = match self {
            Self::Number(name) => {
                let schema = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
                (name, schema)
            }
            Self::Text(name) => (name, text),
            Self::Needed(name) => (name, json!({ "type": "string", "minLength": 1 })),
            Self::Texts(name) => (name, json!({ "type": "array", "items": text })),
        };
        let is_needed = matches!(self, Self::Needed(_));
        json!({ "name": name, "in": "query", "required": is_needed, "schema": schema })
    }
}

/// What stands in braces in `path`.
fn parameters(path: &str) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| {
        let schema = match name {
            "action" => json!({ "enum": ["drain", "resume", "disable"] }),
            _ => json!({ "type": "string", "minLength": 1 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    names.map(parameter).collect()
}

fn reference(shape: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{shape}") })
}

fn content(kind: &str, schema: Value) -> Value {
    json!({ "description": "", "content": { kind: { "schema": schema } } })
}

/// Statuses of every body that cannot be taken: no JSON, too long, something else than was expected.
const OF_BODIES: [u16; 3] = [400, 413, 422];
/// The process is about to end.
const ENDING: u16 = 503;

const fn read(path: &'static str, summary: &'static str, answer: Answer) -> Operation {
    Operation {
        method: Method::Get,
        path,
        summary,
        changes: false,
        takes_token: false,
        query: &[],
        body: None,
        answer,
        problems: &[],
    }
}

const OPERATIONS: &[Operation] = &[
    read("/", "The dashboard.", Answer::Other("text/html")),
    read(
        "/livez",
        "200 while the process runs.",
        Answer::Other("text/plain"),
    ),
    read(
        "/readyz",
        "200 while listeners are open, else 503 with the reason.",
        Answer::Readiness,
    ),
    read(
        "/metrics",
        "Everything counted, in the Prometheus text format.",
        Answer::Other("text/plain"),
    ),
    read(
        "/api/v1/openapi.json",
        "This description.",
        Answer::Json("Anything"),
    ),
    read(
        "/api/v1/status",
        "What is configured and how it is.",
        Answer::Json("Status"),
    ),
    Operation {
        query: &[Parameter::Text("upstream"), Parameter::Number("points")],
        problems: &[400, 404],
        ..read(
            "/api/v1/recent",
            "The last quarter of an hour of routes and upstreams; with upstream, of its endpoints.",
            Answer::Json("Recent"),
        )
    },
    read(
        "/api/v1/config",
        "The configuration in use, and those before it.",
        Answer::Json("Config"),
    ),
    Operation {
        problems: &[503],
        ..read(
            "/api/v1/events",
            "What happens, as server-sent events: begin, endpoint, authority, pause, reload, upgrade, flip, operator, point.",
            Answer::Other("text/event-stream"),
        )
    },
    Operation {
        query: &[
            Parameter::Needed("url"),
            Parameter::Text("method"),
            Parameter::Texts("header"),
            Parameter::Text("listener"),
            Parameter::Text("server_name"),
            Parameter::Text("client"),
        ],
        problems: &[400],
        ..read(
            "/api/v1/explain",
            "Where a request would go if it came now.",
            Answer::Json("Explained"),
        )
    },
    Operation {
        query: &[Parameter::Number("id")],
        problems: &[400, 404, 410],
        ..read(
            "/api/v1/endpoints/{upstream}/{endpoint}",
            "How one endpoint is; with id, also where a reload has removed it.",
            Answer::Json("Endpoint"),
        )
    },
    Operation {
        problems: &[400, 404],
        ..read(
            "/api/v1/endpoints/{upstream}/{endpoint}/facts",
            "The last facts about one endpoint.",
            Answer::Json("Facts"),
        )
    },
    Operation {
        changes: true,
        query: &[Parameter::Number("expect_generation")],
        problems: &[400, 409, 422, ENDING],
        ..read(
            "/api/v1/plan",
            "What a reload would change.",
            Answer::Json("Plan"),
        )
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/reload",
        summary: "Reads the file again.",
        changes: true,
        takes_token: false,
        query: &[],
        body: Some("ReloadWanted"),
        answer: Answer::Json("Reloaded"),
        problems: &[409, ENDING],
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/rollback",
        summary: "Takes an earlier file over again.",
        changes: true,
        takes_token: false,
        query: &[],
        body: Some("RollbackTo"),
        answer: Answer::Json("Reloaded"),
        problems: &[404, 409, ENDING],
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/upgrade",
        summary: "Lets a new process take over; 500 where nothing comes of it.",
        changes: true,
        takes_token: false,
        query: &[],
        body: Some("UpgradeWanted"),
        answer: Answer::Json("Upgraded"),
        problems: &[403, 409, 422, 500, ENDING],
    },
    Operation {
        problems: &[400, 404],
        ..read(
            "/api/v1/upstreams/{upstream}/flip",
            "Which set of an upstream's endpoints serves, and what the last flip has come to.",
            Answer::Json("Sets"),
        )
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/upstreams/{upstream}/flip",
        summary: "Begins to let another set of endpoints serve.",
        changes: true,
        takes_token: false,
        query: &[],
        body: Some("FlipWanted"),
        answer: Answer::Json("Sets"),
        problems: &[404, 409, ENDING],
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/upstreams/{upstream}/flip/abort",
        summary: "Ends a flip that is under way.",
        changes: true,
        takes_token: false,
        query: &[],
        body: Some("Nothing"),
        answer: Answer::Json("Sets"),
        problems: &[404, 409, ENDING],
    },
    Operation {
        method: Method::Post,
        path: "/api/v1/endpoints/{upstream}/{endpoint}/{action}",
        summary: "Takes an endpoint out, or gives it requests again.",
        changes: true,
        takes_token: true,
        query: &[],
        body: Some("Nothing"),
        answer: Answer::Json("Changed"),
        problems: &[404, 409, ENDING],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths and methods of all `.route("…", get(…))` in the source.
    fn routes(source: &str) -> BTreeSet<(String, String)> {
        let routes = source.split(".route(").skip(1).map(|rest| {
            let path = rest.split('"').nth(1).unwrap().to_owned();
            let after = rest.split("\",").nth(1).unwrap().trim_start();
            let method = after.split('(').next().unwrap().to_owned();
            (path, method)
        });
        routes.collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|it| (it.path.to_owned(), it.method.as_str().to_owned()))
            .collect();
        assert_eq!(described, routes(include_str!("mod.rs")));
        assert_eq!(described.len(), OPERATIONS.len());
    }

    #[test]
    fn every_shape_that_is_named_is_there_and_every_one_there_is_named() {
        let description = description();
        let text = description.to_string();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        let named: BTreeSet<&str> = text
            .split("#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert_eq!(named, schemas.keys().map(String::as_str).collect());
    }
}
