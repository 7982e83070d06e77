//! The JSON that the API takes and gives, field by field, for its description. The structs themselves stand where they are made.

use serde_json::{Map, Value, json};

use Kind::{Is, List, Maybe, Number, Text, Whole, Words, Yes};
use Need::{May, Must};

/// A named object.
pub(super) struct Shape {
    name: &'static str,
    /// Whether it is read: then nothing else may stand in it. Answers may get more fields.
    is_taken: bool,
    fields: &'static [Field],
}

/// A field, and whether it is always there.
struct Field(&'static str, Need, Kind);

#[derive(PartialEq)]
enum Need {
    Must,
    May,
}

/// What may stand in a field.
enum Kind {
    Text,
    Yes,
    /// From 0.
    Whole,
    Number,
    Words(&'static [&'static str]),
    /// Or null.
    Maybe(&'static Self),
    List(&'static Self),
    /// Another shape.
    Is(&'static str),
}

impl Shape {
    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// A shape as JSON Schema.
pub(super) fn schema(shape: &Shape) -> Value {
    let properties: Map<_, _> = shape
        .fields
        .iter()
        .map(|Field(name, _, kind)| ((*name).to_owned(), value(kind)))
        .collect();
    let required: Vec<_> = shape
        .fields
        .iter()
        .filter(|Field(_, need, _)| *need == Must)
        .map(|Field(name, ..)| name)
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties, "required": required });
    if shape.is_taken {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn value(kind: &Kind) -> Value {
    match kind {
        Text => json!({ "type": "string" }),
        Yes => json!({ "type": "boolean" }),
        Whole => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
        Number => json!({ "type": "number" }),
        Words(words) => json!({ "enum": words }),
        Maybe(kind) => json!({ "anyOf": [value(kind), { "type": "null" }] }),
        List(kind) => json!({ "type": "array", "items": value(kind) }),
        Is(shape) => json!({ "$ref": format!("#/components/schemas/{shape}") }),
    }
}

const fn given(name: &'static str, fields: &'static [Field]) -> Shape {
    Shape {
        name,
        is_taken: false,
        fields,
    }
}

const fn taken(name: &'static str, fields: &'static [Field]) -> Shape {
    Shape {
        name,
        is_taken: true,
        fields,
    }
}

const MODES: Kind = Words(&["active", "draining", "disabled"]);
const CHANGES: Kind = Words(&["added", "removed", "changed"]);
const TEXTS: Kind = List(&Text);
const ITEMS: Kind = List(&Is("Item"));
const DIFFERENCES: Kind = List(&Is("Difference"));

pub(super) const SHAPES: &[Shape] = &[
    given("Anything", &[]),
    taken("Nothing", &[]),
    taken(
        "ReloadWanted",
        &[
            Field("expect_generation", May, Maybe(&Whole)),
            Field("force", May, Yes),
        ],
    ),
    taken("RollbackTo", &[Field("generation", May, Maybe(&Whole))]),
    given(
        "Status",
        &[
            Field("version", Must, Text),
            Field("generation", Must, Whole),
            Field("started", Must, Whole),
            Field("last_reload", Must, Maybe(&Is("LastReload"))),
            Field("listeners", Must, List(&Is("Listener"))),
            Field("upstreams", Must, List(&Is("Upstream"))),
            Field("routes", Must, List(&Is("Route"))),
        ],
    ),
    given(
        "LastReload",
        &[
            Field(
                "by",
                Must,
                Words(&["signal", "watch", "reload", "rollback", "auto-rollback"]),
            ),
            Field("result", Must, Words(&["accepted", "rejected"])),
            Field("at", Must, Whole),
            Field("why", Must, Maybe(&Text)),
        ],
    ),
    given(
        "Listener",
        &[
            Field("name", Must, Text),
            Field("address", Must, Text),
            Field("tls", Must, Yes),
            Field("open_connections", Must, Whole),
            Field("certificates", Must, List(&Is("Certificate"))),
        ],
    ),
    given(
        "Certificate",
        &[
            Field("label", Must, Text),
            Field("names", Must, TEXTS),
            Field("not_after", Must, Number),
        ],
    ),
    given(
        "Upstream",
        &[
            Field("name", Must, Text),
            Field("policy", Must, Text),
            Field("available", Must, Whole),
            Field("degraded", Must, Yes),
            Field("queued", Must, Whole),
            Field("paused", Must, Yes),
            Field("held", Must, Whole),
            Field("endpoints", Must, List(&Is("Endpoint"))),
        ],
    ),
    given(
        "Endpoint",
        &[
            Field("name", Must, Text),
            Field("address", Must, Text),
            Field("resolved", Must, Maybe(&Text)),
            Field("weight", Must, Whole),
            Field("backup", Must, Yes),
            Field("slow_start", Must, Maybe(&Number)),
            Field("mode", Must, MODES),
            Field(
                "health",
                Must,
                Words(&["unchecked", "unknown", "up", "down", "draining"]),
            ),
            Field("evidence", Must, Maybe(&Words(&["hard", "soft"]))),
            Field("ejected", Must, Maybe(&Is("Ejection"))),
            Field("state", Must, Text),
            Field("reason", Must, Maybe(&Text)),
            Field("since", Must, Whole),
            Field("in_flight", Must, Whole),
            Field("max_in_flight", Must, Maybe(&Whole)),
            Field("tunnels", Must, Whole),
            Field("eligible", Must, Yes),
        ],
    ),
    given(
        "Ejection",
        &[Field("reason", Must, Text), Field("until", Must, Whole)],
    ),
    given(
        "Route",
        &[
            Field("name", Must, Text),
            Field("upstream", Must, Maybe(&Text)),
            Field("split", May, List(&Is("Share"))),
        ],
    ),
    given(
        "Share",
        &[Field("upstream", Must, Text), Field("weight", Must, Whole)],
    ),
    given(
        "Facts",
        &[
            Field("upstream", Must, Text),
            Field("endpoint", Must, Text),
            Field("state", Must, Text),
            Field("reason", Must, Maybe(&Text)),
            Field("since_ms", Must, Whole),
            Field("facts", Must, List(&Is("Fact"))),
        ],
    ),
    given(
        "Fact",
        &[
            Field("first_ms", Must, Whole),
            Field("last_ms", Must, Whole),
            Field("times", Must, Whole),
            Field("kind", Must, Text),
            Field("text", Must, Text),
        ],
    ),
    given(
        "Config",
        &[
            Field("generation", Must, Whole),
            Field("hash", Must, Text),
            // Over the socket.
            Field("text", May, Text),
            Field("accepted", Must, List(&Is("Accepted"))),
        ],
    ),
    given(
        "Accepted",
        &[
            Field("generation", Must, Whole),
            Field("hash", Must, Text),
            Field("at", Must, Whole),
        ],
    ),
    given(
        "Plan",
        &[
            Field("generation", Must, Whole),
            Field("listeners", Must, ITEMS),
            Field("upstreams", Must, ITEMS),
            Field("endpoints", Must, List(&Is("EndpointItem"))),
            Field("routes", Must, ITEMS),
            Field("settings", Must, DIFFERENCES),
            Field("tls_files", Must, Yes),
            Field("counts", Must, Is("Counts")),
            Field("by_operator", Must, List(&Is("ByOperator"))),
            Field("restart", Must, DIFFERENCES),
            Field("warnings", Must, TEXTS),
        ],
    ),
    given(
        "Item",
        &[
            Field("name", Must, Text),
            Field("change", Must, CHANGES),
            Field("what", Must, DIFFERENCES),
        ],
    ),
    given(
        "EndpointItem",
        &[
            Field("upstream", Must, Text),
            Field("endpoint", Must, Text),
            Field("change", Must, CHANGES),
            Field("what", Must, DIFFERENCES),
            Field("in_flight", Must, Whole),
            Field("tunnels", Must, Whole),
        ],
    ),
    given(
        "Difference",
        &[
            Field("key", Must, Text),
            Field("before", Must, Maybe(&Text)),
            Field("after", Must, Maybe(&Text)),
        ],
    ),
    given(
        "Counts",
        &[
            Field("kept", Must, Whole),
            Field("added", Must, Whole),
            Field("removed", Must, Whole),
            Field("in_flight", Must, Whole),
        ],
    ),
    given(
        "ByOperator",
        &[
            Field("upstream", Must, Text),
            Field("endpoint", Must, Text),
            Field("mode", Must, MODES),
        ],
    ),
    given(
        "Reloaded",
        &[
            Field("previous", Must, Whole),
            Field("generation", Must, Whole),
            Field("kept", Must, Whole),
            Field("in_flight", Must, Whole),
            Field("added", Must, Whole),
            Field("draining", Must, Whole),
            Field("restart", Must, TEXTS),
            Field("warnings", Must, TEXTS),
        ],
    ),
    given(
        "Changed",
        &[
            Field("before", Must, MODES),
            Field("endpoint", Must, Is("Endpoint")),
        ],
    ),
    given(
        "Problem",
        &[
            Field("type", Must, Text),
            Field("title", Must, Text),
            Field("status", Must, Whole),
            Field("detail", Must, Text),
            Field("problems", May, List(&Is("FileProblem"))),
        ],
    ),
    given(
        "FileProblem",
        &[
            Field("file", Must, Text),
            Field("line", Must, Whole),
            Field("column", Must, Whole),
            Field("key", Must, Text),
            Field("message", Must, Text),
        ],
    ),
];
