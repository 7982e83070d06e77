"""Autobahn's WebSocket fuzzing client (autobahntestsuite, PyPI, Python 2.7): as strict through the balancer as without it.

The server is Autobahn's echo server. What it passes when asked directly it must pass through the balancer, and as strictly:
except where a message is followed by a wrong frame (cases 3 to 5). Whether the echo comes before the failure depends there
on which bytes the server reads together, and a proxy may bring together what was sent apart."""

import json
import os
from collections import Counter

from stage import free_port, is_open, wait_for

SUITE = "autobahntestsuite==25.10.1"
# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing; of the large messages those that take no minute.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.2.1", "9.7.1", "9.8.1", "10.*"]
AGAIN = 3
LENIENT = ("3.", "4.", "5.")
SECONDS = 150
SECONDS_FOR_ALL = 1800
# From best to worst. None of these is a fault of the server.
ORDER = ["OK", "INFORMATIONAL", "UNIMPLEMENTED", "NON-STRICT"]


def judge(stage):
    python = stage.environment_of_python_2("websocket", SUITE)
    if python is None:
        print("NOTE: WebSocket was NOT judged by Autobahn: Python 2.7 is not on this machine", flush=True)
        return None
    suite = os.path.join(os.path.dirname(python), "wstest")
    server = free_port()
    with open(stage.path("server.log"), "wb") as log:
        stage.start([suite, "-m", "echoserver", "-w", f"ws://127.0.0.1:{server}"], stdout=log, stderr=log)
    wait_for("Autobahn's echo server", lambda: is_open(server))
    # The echo server takes no request for another port than its own.
    balancer = stage.balancer(f"""
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = ["127.0.0.1:{server}"]
        [[route]]
        upstream = "app"
        request_headers = {{ set = {{ host = "127.0.0.1:{server}" }} }}
    """)["http"]
    urls = {"direct": f"ws://127.0.0.1:{server}", "balancer": f"ws://127.0.0.1:{balancer}"}
    results = asked(stage, suite, urls, ["*"] if stage.all else CASES)
    # Closing is a race between two sides: what is worse through the balancer has to be so each time.
    for _ in range(AGAIN):
        worse = worse_cases(results)
        if not worse:
            break
        for agent, cases in asked(stage, suite, urls, worse).items():
            results[agent].update(cases)
    for agent, cases in results.items():
        print(f"   {agent}: {len(cases)} cases: {dict(Counter(verdict(result) for result in cases.values()))}")
    if not any(rank(result) < len(ORDER) for result in results["direct"].values()):
        return ["nothing is passed directly: Autobahn or its server does not work"]
    return [f"case {case}: {verdict(results['direct'][case])} directly, "
            f"{verdict(results['balancer'].get(case))} through the balancer" for case in worse_cases(results)]


def asked(stage, suite, urls, cases):
    """What came of each case, by agent."""
    specification, reports = stage.path("fuzzing.json"), stage.path("reports")
    with open(specification, "w", encoding="ascii") as file:
        json.dump({"outdir": reports, "cases": cases, "exclude-cases": [], "exclude-agent-cases": {},
                   "servers": [{"agent": agent, "url": url} for agent, url in urls.items()]}, file)
    stage.run([suite, "-m", "fuzzingclient", "-s", specification], SECONDS_FOR_ALL if stage.all else SECONDS)
    with open(os.path.join(reports, "index.json"), encoding="utf-8") as file:
        found = json.load(file)
    return {agent: found.get(agent, {}) for agent in urls}


def worse_cases(results):
    def is_worse(case, direct, balancer):
        is_pass = rank(balancer) < len(ORDER)
        return rank(balancer) > rank(direct) and not (is_pass and case.startswith(LENIENT))

    return [case for case, direct in results["direct"].items()
            if is_worse(case, direct, results["balancer"].get(case))]


def rank(result):
    """The worse of how it behaved and how it closed; below `len(ORDER)` is a pass."""
    if result is None:
        return len(ORDER) + 1
    return max(ORDER.index(result[key]) if result[key] in ORDER else len(ORDER)
               for key in ("behavior", "behaviorClose"))


def verdict(result):
    if result is None:
        return "not asked"
    behaviour, close = result["behavior"], result["behaviorClose"]
    return behaviour if behaviour == close or close in ORDER else f"{behaviour}, closing {close}"
