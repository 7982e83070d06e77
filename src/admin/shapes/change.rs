//! The configuration, what would change and what has, and what is wrong.

use super::Kind::{Is, List, Maybe, Number, Text, Whole, Words, Yes};
use super::Need::{May, Must};
use super::{CAUSES, Field, Kind, MODES, Shape, TEXTS, given, taken};

const CHANGES: Kind = Words(&["added", "removed", "changed"]);
const ITEMS: Kind = List(&Is("Item"));
const DIFFERENCES: Kind = List(&Is("Difference"));

pub(super) const SHAPES: &[Shape] = &[
    taken("Nothing", &[]),
    taken(
        "ReloadWanted",
        &[
            Field("expect_generation", May, Maybe(&Whole)),
            Field("force", May, Yes),
        ],
    ),
    taken(
        "FlipWanted",
        &[
            Field("to", Must, Text),
            Field("force", May, Yes),
            Field("watch_seconds", May, Maybe(&Number)),
            Field("percent", May, List(&Whole)),
            Field("min_requests", May, Maybe(&Whole)),
            Field("tolerance", May, Maybe(&Number)),
            Field("ignore_latency", May, Yes),
            Field("expect_version", May, Maybe(&Text)),
        ],
    ),
    taken(
        "UpgradeWanted",
        &[
            Field("binary", May, Maybe(&Text)),
            Field("timeout_seconds", May, Maybe(&Whole)),
            Field("force", May, Yes),
        ],
    ),
    given(
        "Upgraded",
        &[
            Field("pid", Must, Whole),
            Field("version", Must, Text),
            Field("generation", Must, Whole),
            Field("previous_pid", Must, Whole),
            Field("draining", Must, Whole),
        ],
    ),
    taken(
        "RollbackTo",
        &[
            Field("generation", May, Maybe(&Whole)),
            Field("force", May, Yes),
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
            Field("file_of", Must, Whole),
            Field("hash", Must, Text),
            Field("at", Must, Whole),
            Field("by", Must, CAUSES),
            // Over the socket, where a user has asked.
            Field("uid", May, Whole),
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
            Field("files", Must, TEXTS),
            Field("counts", Must, Is("Counts")),
            Field("by_operator", Must, List(&Is("ByOperator"))),
            Field("sets_by_operator", Must, List(&Is("SetByOperator"))),
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
        "SetByOperator",
        &[
            Field("upstream", Must, Text),
            Field("set", Must, Text),
            Field("file", Must, Text),
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
