//! The JSON that the API takes and gives, field by field, for its description. The structs themselves stand where they are made.

mod change;
mod state;

use serde_json::{Map, Value, json};

use Kind::{Is, List, Maybe, Number, Text, Whole, Words, Yes};
use Need::Must;

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

const TEXTS: Kind = List(&Text);
const MODES: Kind = Words(&["active", "draining", "disabled"]);
/// What a configuration is taken over for.
const CAUSES: Kind = Words(&[
    "start",
    "signal",
    "watch",
    "reload",
    "rollback",
    "auto-rollback",
]);

/// All of them.
pub(super) fn shapes() -> impl Iterator<Item = &'static Shape> {
    state::SHAPES.iter().chain(change::SHAPES)
}
