//! Affinity, splits, mirrors, pauses, and cookies that are matched.

use super::{each_has, each_value_has};
use crate::configuration::problems_behind_base;

#[test]
fn affinity() {
    let needs_key = "needs `key_file`, such as key_file = \"certs/affinity.key\"; make one: openssl rand -hex 32 > certs/affinity.key";
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            ("affinity = true", "must be a table, got true"),
            ("affinity = { cookie = \"c\" }", needs_key),
            (
                "affinity = { key_file = \"k\" }",
                "needs `cookie`, such as cookie = \"balancer\"",
            ),
            (
                "affinity = { by = \"server\", cookie = \"c\", key_file = \"k\" }",
                "must be \"endpoint\" or \"version\", got \"server\"",
            ),
            (
                "affinity = { by = \"version\", cookie = \"c\", key_file = \"k\" }",
                "needs `version_header` or `version_pointer` in the upstream's `health`: otherwise no version is known",
            ),
            (
                "affinity = { cookie = \"a b\", key_file = \"k\" }",
                "must be the name of a cookie such as \"balancer\", got \"a b\"",
            ),
            (
                "affinity = { cookie = \"c\", key_file = \"\" }",
                "must be a path, got \"\"",
            ),
            (
                "affinity = { header = \"x-user\", key_file = \"k\" }",
                "clients are kept by a header with policy = \"hash\" and hash = { key = \"header:NAME\" }; affinity is by `cookie`",
            ),
            (
                "affinity = { header = \"x-user\", cookie = \"c\", key_file = \"k\" }",
                "has no effect beside `cookie`; leave one of them out",
            ),
            (
                "affinity = { cookie = \"c\", key_file = \"k\", path = \"a\" }",
                "must be a path such as \"/\", got \"a\"",
            ),
            (
                "affinity = { cookie = \"c\", key_file = \"k\", path = \"/;Domain=x\" }",
                "must be a path such as \"/\", got \"/;Domain=x\"",
            ),
            (
                "affinity = { cookie = \"c\", key_file = \"k\", max_age = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            (
                "affinity = { cookie = \"c\", key_file = \"k\", max_age = \"1500ms\" }",
                "must be whole seconds, got \"1500ms\"",
            ),
        ],
    );
}

#[test]
fn pauses() {
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            (
                "state = \"pause\"",
                "must be \"active\" or \"paused\", got \"pause\"; did you mean \"paused\"?",
            ),
            ("pause = true", "must be a table, got true"),
            ("pause = { hold = -1 }", "must be 0–1000000, got -1"),
            (
                "pause = { wait = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            ("pause = { hold_ = 1 }", "unknown key; did you mean `hold`?"),
        ],
    );
}

#[test]
fn splits() {
    let two = "upstream = \"app\" }, { upstream = \"app\"";
    each_value_has(
        "[[route]]\n",
        &[
            (
                "split = []",
                "must not be empty; name the upstreams that share the requests",
            ),
            (
                "split = \"app\"",
                "must be an array such as [{ upstream = \"app\", weight = 9 }, { upstream = \"canary\", weight = 1 }], got \"app\"",
            ),
            ("split = [\"app\"]", "must be a table, got \"app\""),
            (
                "split = [{ weight = 1 }]",
                "needs `upstream`, such as upstream = \"app\"",
            ),
            (
                "split = [{ upstream = \"ap\" }]",
                "no upstream is named \"ap\"; did you mean \"app\"?",
            ),
            (
                "split = [{ upstream = \"app\", weight = 1001 }]",
                "must be 0–1000, got 1001",
            ),
            (
                "split = [{ upstream = \"app\", weight = 0 }]",
                "every weight is 0, so that nobody gets a request; give one of them a weight",
            ),
            (
                &format!("split = [{{ {two} }}]"),
                "\"app\" is listed twice; add the weights up",
            ),
            (
                "split = [{ upstream = \"app\" }]\nupstream = \"app\"",
                "a route has one action, and this one has `split`",
            ),
            (
                "upstream = \"app\"\nsplit_by = \"client\"",
                "only with `split`: nothing is shared here",
            ),
            (
                "split = [{ upstream = \"app\" }]\nsplit_by = \"clients\"",
                "must be \"request\" or \"client\", got \"clients\"; did you mean \"client\"?",
            ),
        ],
    );
}

#[test]
fn reads_and_writes() {
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\nrole = \"authoritative\"\n[[route]]\nupstream = \"app\"\n",
        &[
            (
                "writes = \"bb\"",
                "no upstream is named \"bb\"; did you mean \"b\"?",
            ),
            (
                "writes = \"app\"",
                "\"app\" is the route's `upstream`, too; leave this out",
            ),
            (
                "read_your_writes = \"2s\"",
                "needs `writes`: the upstream that gets what may change something",
            ),
            (
                "writes = \"b\"\nread_your_writes = \"2h\"",
                "must be at most \"1h\", got \"2h\"",
            ),
            (
                "writes = \"b\"\nread_your_writes = {}",
                "needs `window`, such as window = \"2s\"",
            ),
            (
                "writes = \"b\"\nread_your_writes = { window = \"2s\", cookie = \"a b\" }",
                "must be the name of a cookie such as \"balancer\", got \"a b\"",
            ),
            (
                "mirror = { upstream = \"b\" }",
                "mirror: the upstream \"b\" is authoritative, and what reaches it counts; mirror to another one",
            ),
        ],
    );
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\nrole = \"authoritative\"\n[[route]]\nupstream = \"b\"\n",
        &[
            (
                "hedge = { after = \"1s\" }",
                "hedge: the upstream \"b\" is authoritative: nobody else may be asked; leave hedge out",
            ),
            (
                "mirror = { upstream = \"app\" }",
                "mirror: the upstream \"b\" is authoritative, and what changes something would be done elsewhere, too; set methods = [\"GET\", \"HEAD\"] in it, or leave it out",
            ),
        ],
    );
    each_has(&[(
        "[[route]]\nsplit = [{ upstream = \"app\" }]\nwrites = \"app\"\n",
        "3:1: route[0].writes: only with `upstream`, which gets what only reads",
    )]);
    let reads = "[upstream.b]\nendpoints = [\"h:1\"]\nrole = \"authoritative\"\n[[route]]\nname = \"a\"\npath = \"/a\"\nupstream = \"b\"\nmirror = { upstream = \"app\", methods = [\"GET\"] }\n";
    assert_eq!(problems_behind_base(reads), [""; 0]);
}

#[test]
fn cookies() {
    each_value_has(
        "[[route]]\nupstream = \"app\"\n",
        &[
            (
                "cookies = []",
                "must be a table such as { beta = \"1\" }, got an array",
            ),
            (
                "cookies = { \"a b\" = \"1\" }",
                "\"a b\" is not a cookie's name",
            ),
            ("cookies = { a = 1 }", "must be a string, got 1"),
            (
                "cookies = { a = \"se;cret\" }",
                "must be visible ASCII without quotes, commas, semicolons and backslashes",
            ),
        ],
    );
    let same = "[[route]]\nname = \"a\"\nupstream = \"app\"\ncookies = { a = \"1\" }\n";
    assert_eq!(problems_behind_base(same), [""; 0]);
}

#[test]
fn mirrors() {
    each_value_has(
        "[[route]]\nupstream = \"app\"\n",
        &[
            ("mirror = \"app\"", "must be a table, got \"app\""),
            (
                "mirror = {}",
                "needs `upstream`, such as upstream = \"shadow\"",
            ),
            (
                "mirror = { upstream = \"ap\" }",
                "no upstream is named \"ap\"; did you mean \"app\"?",
            ),
            (
                "mirror = { upstream = \"app\", percent = 0 }",
                "must be above 0 and at most 100, got 0",
            ),
            (
                "mirror = { upstream = \"app\", percent = nan }",
                "must be above 0 and at most 100, got nan",
            ),
            (
                "mirror = { upstream = \"app\", body_bytes = \"0B\" }",
                "must be more than zero, got \"0B\"",
            ),
            (
                "mirror = { upstream = \"app\", body_bytes = \"1GiB\" }",
                "must be at most \"16MiB\": it is kept in memory, for every request, got \"1GiB\"",
            ),
            (
                "mirror = { upstream = \"app\", methods = [\"get\"] }",
                "must be in upper case, got \"get\"; did you mean \"GET\"?",
            ),
            (
                "mirror = { upstream = \"app\", timeout = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
        ],
    );
    each_has(&[(
        "[[route]]\nrespond = {}\nmirror = { upstream = \"app\" }",
        "3:1: route[0].mirror: only with `upstream`: this route sends nothing to an endpoint",
    )]);
}
