//! How everything is, and where a request would go.

use super::Kind::{Is, List, Maybe, Number, Text, Whole, Words, Yes};
use super::Need::{May, Must};
use super::{CAUSES, Field, Kind, MODES, Shape, TEXTS, given};

const NUMBERS: Kind = List(&Number);
const LATENCIES: Kind = List(&Maybe(&Number));

pub(super) const SHAPES: &[Shape] = &[
    given("Anything", &[]),
    given(
        "Status",
        &[
            Field("version", Must, Text),
            Field("generation", Must, Whole),
            Field("started", Must, Whole),
            Field("last_reload", Must, Maybe(&Is("LastReload"))),
            Field("upgrade", Must, Maybe(&Is("Upgrade"))),
            Field("admin", Must, Is("Admin")),
            Field("listeners", Must, List(&Is("Listener"))),
            Field("upstreams", Must, List(&Is("Upstream"))),
            Field("routes", Must, List(&Is("Route"))),
        ],
    ),
    given("Admin", &[Field("writable", Must, Yes)]),
    given(
        "LastReload",
        &[
            Field("by", Must, CAUSES),
            Field("result", Must, Words(&["accepted", "rejected"])),
            Field("at", Must, Whole),
            Field("why", Must, Maybe(&Text)),
        ],
    ),
    given(
        "Upgrade",
        &[
            Field("state", Must, Words(&["starting", "draining"])),
            Field("pid", Must, Whole),
            // Of the one that drains.
            Field("connections", May, Whole),
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
            Field("headroom", Must, Is("Headroom")),
            Field("role", Must, Words(&["clones", "authoritative"])),
            Field("authority", Must, Maybe(&Text)),
            Field("no_authority", Must, Maybe(&Text)),
            Field("active_set", Must, Maybe(&Text)),
            Field("file_set", Must, Maybe(&Text)),
            Field("flip", Must, Maybe(&Is("Flip"))),
            Field("versions", Must, Maybe(&List(&Is("Version")))),
            Field("skew_since", Must, Maybe(&Whole)),
            Field("expect_version", Must, Maybe(&Text)),
            Field("affinity_audit", Must, Maybe(&Is("AffinityAudit"))),
            Field("endpoints", Must, List(&Is("Endpoint"))),
        ],
    ),
    given(
        "AffinityAudit",
        &[
            Field("share", Must, Number),
            Field("kept", Must, Is("Audited")),
            Field("broken", Must, Is("Audited")),
        ],
    ),
    given(
        "Audited",
        &[
            Field("ok", Must, Whole),
            Field("refused", Must, Whole),
            Field("redirected", Must, Whole),
            Field("failed", Must, Whole),
        ],
    ),
    given(
        "Headroom",
        &[
            Field("could_lose", Must, Whole),
            Field("could_lose_at_peak", Must, Whole),
            Field("of", Must, Whole),
            Field("load", Must, Whole),
            Field("peak", Must, Whole),
            Field(
                "by",
                Must,
                Words(&["max_in_flight", "observed_peak", "both"]),
            ),
        ],
    ),
    given(
        "Endpoint",
        &[
            Field("id", Must, Whole),
            // Of one that a reload has removed.
            Field("gone", May, Yes),
            Field("name", Must, Text),
            Field("address", Must, Text),
            Field("resolved", Must, Maybe(&Text)),
            Field("weight", Must, Whole),
            Field("backup", Must, Yes),
            Field("set", Must, Maybe(&Text)),
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
            Field("peak_in_flight", Must, Whole),
            Field("tunnels", Must, Whole),
            Field("retries", Must, Whole),
            Field("eligible", Must, Yes),
            Field("version", Must, Maybe(&Text)),
            Field("version_unknown", Must, Maybe(&Text)),
            Field(
                "role",
                Must,
                Maybe(&Words(&["authority", "claimant", "standby"])),
            ),
        ],
    ),
    given(
        "Version",
        &[
            Field("version", Must, Text),
            Field("endpoints", Must, Whole),
            Field("serving", Must, Whole),
        ],
    ),
    given(
        "Sets",
        &[
            Field("upstream", Must, Text),
            Field("active_set", Must, Maybe(&Text)),
            Field("file_set", Must, Maybe(&Text)),
            Field("sets", Must, List(&Is("Set"))),
            Field("flip", Must, Maybe(&Is("Flip"))),
        ],
    ),
    given(
        "Set",
        &[
            Field("name", Must, Text),
            Field("percent", Must, Whole),
            Field("endpoints", Must, Whole),
            Field("well", Must, Whole),
        ],
    ),
    given(
        "Flip",
        &[
            Field("number", Must, Whole),
            Field("from", Must, Text),
            Field("to", Must, Text),
            Field("phase", Must, Text),
            Field("over", Must, Yes),
            Field("percent", Must, Whole),
            Field("begun_ms", Must, Whole),
            Field("since_ms", Must, Whole),
            Field("watch_seconds", Must, Number),
            Field("before", Must, Is("Figures")),
            Field("after", Must, Is("Figures")),
            Field("verdict", Must, Maybe(&Text)),
            Field("change_seconds", Must, Maybe(&Number)),
        ],
    ),
    given(
        "Figures",
        &[
            Field("requests", Must, Whole),
            Field("errors", Must, Whole),
            Field("p99_seconds", Must, Maybe(&Number)),
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
            Field("listeners", Must, TEXTS),
            Field("hosts", Must, TEXTS),
            Field("path", Must, Text),
            Field("path_kind", Must, Words(&["prefix", "exact", "regex"])),
            Field("in_flight", Must, Whole),
            Field("upstream", Must, Maybe(&Text)),
            Field("writes", May, Text),
            Field("split", May, List(&Is("Share"))),
        ],
    ),
    given(
        "Share",
        &[Field("upstream", Must, Text), Field("weight", Must, Whole)],
    ),
    given(
        "Recent",
        &[
            Field("until", Must, Whole),
            Field("step_seconds", Must, Whole),
            // Of all.
            Field("routes", May, List(&Is("Points"))),
            Field("upstreams", May, List(&Is("Points"))),
            // Of one upstream.
            Field("endpoints", May, List(&Is("Points"))),
        ],
    ),
    given(
        "Points",
        &[
            // Of an endpoint.
            Field("upstream", May, Text),
            Field("name", Must, Text),
            Field("requests", Must, NUMBERS),
            Field("errors", Must, NUMBERS),
            Field("p50", Must, LATENCIES),
            Field("p95", Must, LATENCIES),
            Field("p99", Must, LATENCIES),
            Field("in_flight", Must, List(&Whole)),
        ],
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
        "Explained",
        &[
            Field("generation", Must, Whole),
            Field("listener", Must, Text),
            Field("host", Must, Text),
            Field("client", Must, Text),
            Field("path", Must, Maybe(&Text)),
            Field("sent_path", Must, Maybe(&Text)),
            Field("route", Must, Maybe(&Text)),
            Field("answer", Must, Maybe(&Is("OwnAnswer"))),
            Field("forward", Must, Maybe(&Is("Forward"))),
            Field("others", Must, List(&Is("OtherRoute"))),
        ],
    ),
    given(
        "OwnAnswer",
        &[
            Field("status", Must, Whole),
            Field("why", Must, Text),
            Field("refused", Must, Yes),
        ],
    ),
    given(
        "Forward",
        &[
            Field("upstream", Must, Text),
            Field("policy", Must, Text),
            Field("waits", Must, Maybe(&Text)),
            Field("endpoint", Must, Maybe(&Text)),
            Field("by", Must, Text),
            Field("candidates", Must, List(&Is("Candidate"))),
        ],
    ),
    given(
        "Candidate",
        &[
            Field("endpoint", Must, Text),
            Field("state", Must, Text),
            Field("why_not", Must, Maybe(&Text)),
            Field("weight", Must, Whole),
            Field("in_flight", Must, Whole),
            Field("max_in_flight", Must, Maybe(&Whole)),
            Field("version", Must, Maybe(&Text)),
        ],
    ),
    given(
        "OtherRoute",
        &[Field("route", Must, Text), Field("why", Must, Text)],
    ),
];
