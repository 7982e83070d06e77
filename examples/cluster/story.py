"""What is promised of a cluster of clones, played on one. Each step says what it proves, with numbers; one that finds a promise broken
raises `Broken` with the evidence."""

import json
import os
import threading
import time
from collections import Counter

from cluster import HERE, wait_for
from visitors import WRITTEN, Editors, ask

HARMED = 0.05  # of the requests of the time that a flip is watched; beyond that a broken version was found too late
WATCH = 20  # seconds
EDITING = 40  # admin requests a second
NOTES = 20


class Broken(Exception):
    """A promise that was not kept, and how that is known."""


def hold(kept, promise, evidence=()):
    if not kept:
        raise Broken("\n".join([f"NOT KEPT: {promise}", *(f"   {one}" for one in list(evidence)[:10])]))


def log_in(cluster, load):
    """Everybody logs in, on whatever clone; from then on all clones know them"""
    wrong = load.log_in()
    hold(not wrong, "everybody can log in", wrong)
    with load:
        time.sleep(2)
    hold(not load.wrong(), "no request fails", load.wrong())
    serving = {node for node in cluster.nodes if node.startswith("app-")}
    hold(set(load.nodes()) == serving, "every clone that serves gets requests, and nobody else", [dict(load.nodes())])
    return f"{load.figures()}; shares: {shares(load)}"


def kill(cluster, load):
    """A clone is killed (SIGKILL) while people use it, and comes back: nobody notices, no session is lost"""
    victim, retries = "app-2", cluster.metric("balancer_retries_total", upstream="app")
    with load:
        time.sleep(1)
        wait_for(f"requests to {victim}", lambda: load.nodes()[victim] > 0)
        cluster.nodes[victim].kill()
        killed = time.monotonic()
        time.sleep(2)
        away = [request for request in load.since(killed) if request.answer.node == victim]
        cluster.nodes[victim].start()
        started = time.monotonic()
        wait_for(f"requests to {victim} again", lambda: any(request.answer.node == victim for request in load.since(started)))
        back = time.monotonic() - started
        time.sleep(1)
    hold(not away, f"{victim} is away when it is killed", away)
    hold(not load.wrong(), "no request fails and no session is lost when a clone is killed", load.wrong())
    retried = cluster.metric("balancer_retries_total", upstream="app") - retries
    return f"{load.figures()}: 0 failed, 0 sessions lost; {retried:.0f} asked another clone; back in use {back:.1f} s after its start"


def roll(cluster, load):
    """All clones are rolled from v1 to v2 while people use them: nothing fails, and nobody sees v1 after v2"""
    with load.with_newcomers():
        time.sleep(1)
        begun = time.monotonic()
        code, said = cluster.run("roll", "app", "--hook", cluster.deploy("v2"), "--hook-timeout", "30s", "--expect-version", "v2")
        took, rolled = time.monotonic() - begun, time.monotonic()
        time.sleep(1)
    hold(code == 0, "the roll goes through", said.splitlines()[-10:])
    hold(not load.wrong(), "no request fails and no session is lost during a roll", load.wrong())
    hold(not load.backwards(["v1", "v2"]), "nobody sees v1 after v2", load.backwards(["v1", "v2"]))
    old = [request for request in load.since(rolled) if request.answer.version != "v2"]
    hold(load.since(rolled) and not old, "everybody is on v2 when the roll is done", old)
    # What would have been a chance to see v1 after v2; without any the step would have proved nothing.
    first = min(request.done for request in load.requests if request.answer.version == "v2")
    last = max(request.sent for request in load.requests if request.answer.version == "v1")
    both = [request for request in load.requests if first < request.sent <= last]
    hold(last > first and both, "both versions serve for a while", [f"first v2 {first:.3f}, last v1 {last:.3f}"])
    sessions = len({request.visitor for request in load.requests})
    twice = [name for name, count in Counter(request.visitor for request in load.mixed()).items() if count > 1]
    hold(not twice, "a page and its script are of different versions at most once for each visitor", twice)
    return (f"{load.figures()}, {sessions} sessions: 0 failed, 0 lost, 0 times v1 after v2; took {took:.1f} s, for {last - first:.1f} s both versions "
            f"served ({len(both)} requests); scripts of another version than their page: {len(load.mixed())}")


def flip(cluster, load):
    """The half that stands by gets a broken v3 and all requests at one stroke: the balancer goes back by itself, soon"""
    deploy_to_next(cluster, "v3")
    with load:
        time.sleep(2)
        begun = time.monotonic()
        code, said = cluster.run("flip", "app", "--to", "green", "--expect-version", "v3", "--watch", f"{WATCH}s")
        ended = time.monotonic()
        time.sleep(2)
    hold(code == 3, "a broken version is found, with exit code 3", [f"exit code {code}", *said.splitlines()])
    wrong = load.wrong()
    others = [request for request in wrong if request.answer.status != 500 or request.answer.version != "v3"]
    hold(not others, "nothing fails but what v3 has answered", others)
    hold(wrong, "v3 has failed requests")
    late = [request for request in load.since(ended) if request.answer.version == "v3"]
    hold(not late, "nobody sees v3 when the flip has ended", late)
    share = len(wrong) / (load.rate * WATCH)
    hold(share <= HARMED, f"at most {HARMED:.0%} of the requests of {WATCH} s are harmed", [f"{len(wrong)} of {load.rate * WATCH:.0f}"])
    seen = sum(request.answer.version == "v3" for request in load.requests)
    reason = said.strip().splitlines()[-1].partition("flip app: ")[2]
    return (f"{load.figures()}; back after {ended - begun:.1f} s of {WATCH}; {len(wrong)} of {seen} requests to v3 failed, {share:.2%} of what "
            f"{WATCH} s have (promised: {HARMED:.0%}), 0 afterwards, 0 sessions lost; it says: {reason}")


def mended(cluster, load):
    """v4 is sound: the flip to it is kept"""
    deploy_to_next(cluster, "v4")
    with load:
        time.sleep(1)
        # How fast answers are is for a quiet machine to judge.
        arguments = ("--to", "green", "--expect-version", "v4", "--watch", "5s", "--ignore-latency")
        code, said = cluster.run("flip", "app", *arguments)
        ended = time.monotonic()
        time.sleep(1)
    hold(code == 0, "a sound version is kept", [f"exit code {code}", *said.splitlines()])
    hold(not load.wrong(), "no request fails in a flip to a sound version", load.wrong())
    hold(not load.backwards(["v2", "v4"]), "nobody sees v2 after v4", load.backwards(["v2", "v4"]))
    old = [request for request in load.since(ended) if request.answer.version != "v4"]
    hold(not old, "every request goes to v4 after the flip", old)
    cluster.do("flip", "app", "--to", "blue", "--watch", "0s")
    return f"{load.figures()}: 0 failed, 0 sessions lost, 0 times v2 after v4"


def killed_in_flip(cluster, load):
    """The balancer itself is killed in the middle of a flip: started again it serves what the file says"""
    deploy_to_next(cluster, "v4")
    with load:
        time.sleep(1)
        cluster.do("flip", "app", "--to", "green", "--watch", "60s", "--no-wait")
        wait_for("requests to v4", lambda: any(request.answer.version == "v4" for request in list(load.requests)))
        cluster.kill_balancer()
    cluster.start_balancer()
    with load:
        time.sleep(2)
    hold(not load.wrong(), "no request fails and no session is lost after a balancer that was killed is back", load.wrong())
    flipped = [request for request in load.requests if not request.answer.node.startswith("app-")]
    hold(not flipped, "the file's active_set serves after a restart", flipped)
    return f"{load.figures()}: 0 failed, 0 sessions lost, 0 to the set that it had flipped to"


def killed_in_roll(cluster, load):
    """The balancer itself is killed in the middle of a roll: started again all clones serve, and `--continue` rolls the rest"""
    arguments = ("roll", "app", "--only", "app-1", "--only", "app-2", "--hook-timeout", "30s", "--expect-version", "v5")
    outcome = []
    rolling = threading.Thread(target=lambda: outcome.extend(cluster.run(*arguments, "--hook", f"sleep 2; {cluster.deploy('v5')}")))
    rolling.start()
    wait_for("the hook of app-1", lambda: endpoint(cluster, "app", "app-1")["state"] == "disabled")
    cluster.kill_balancer()
    rolling.join()
    hold(outcome[0] not in (0, None), "a roll that has lost its balancer does not say that it is done", outcome[1].splitlines()[-5:])
    cluster.start_balancer()
    with load.with_newcomers():  # the others may be kept with v2
        wait_for("requests to app-1 again", lambda: load.nodes()["app-1"] > 0)
        code, said = cluster.run(*arguments, "--hook", cluster.deploy("v5"), "--continue")
        time.sleep(1)
    hold(code == 0, "`--continue` goes on where the roll has stopped", said.splitlines()[-10:])
    hold(not load.wrong(), "no request fails and no session is lost when a roll goes on", load.wrong())
    versions = [cluster.nodes[name].read("version") for name in ("app-1", "app-2")]
    hold(versions == ["v5", "v5"], "what was to be rolled is rolled", [versions])
    return f"{load.figures()}: 0 failed, 0 sessions lost; the roll had ended with {outcome[0]}: {outcome[1].strip().splitlines()[-1]}"


def authority(cluster, load):
    """Two nodes claim to be the authority, then only the other one, then that is killed: nothing is done twice, nor by anybody else"""
    first, second = cluster.nodes["authority"], cluster.nodes["standby"]
    doubtful = cluster.metric("balancer_errors_total", reason="two_authorities")
    with Editors(cluster, EDITING, 8) as editors:
        wait_for("admin work at the authority", lambda: by(editors, first))
        doubted = time.monotonic()
        second.claim(True)
        wait_for("503 while two claim it", lambda: refused(editors.since(doubted)))
        contested = min(request.done for request in refused(editors.since(doubted)))
        time.sleep(2)
        alone = time.monotonic()
        first.claim(False)
        wait_for("admin work at the one that is left", lambda: by(editors, second))
        time.sleep(1)
        killed = time.monotonic()
        second.kill()
        time.sleep(1)
        claimed = time.monotonic()
        first.claim(True)
        wait_for("admin work at the one that claims it then", lambda: any(request.sent > killed for request in by(editors, first)))
        time.sleep(1)
    doubtful = cluster.metric("balancer_errors_total", reason="two_authorities") - doubtful
    second.claim(False)
    second.start()
    noted = done(cluster, WRITTEN)  # checks that each was done by one node
    hold({node for node, _ in noted.values()} <= {"authority", "standby"}, "no clone does admin work", noted.items())
    twice = [(key, it) for key, it in noted.items() if it[1] != 1]
    hold(not twice, "nothing is done twice", twice)
    lost = [request for request in editors.requests if request.answer.status == 200 and noted.get(request.visitor, ("",))[0] != request.answer.node]
    hold(not lost, "what is said to be done is done, by who says so", lost)
    others = [request for request in refused(editors.requests) if request.visitor in noted]
    hold(not others, "what is refused with 503 is not done", others)
    during = [request for request in editors.requests if contested < request.sent < alone and request.answer.status != 503]
    hold(not during, "everything is refused while two claim it", during)
    taken = min(request.done for request in by(editors, second))
    back = min(request.done for request in by(editors, first) if request.sent > killed)
    late = [request for request in by(editors, first) if taken < request.sent < killed]
    hold(not late, "the one before does nothing once the other one serves", late)
    hold(doubtful > 0, "the reason is told: two_authorities")
    done_by = ", ".join(f"{count} by {node}" for node, count in sorted(Counter(node for node, _ in noted.values()).items()))
    failed = [request for request in editors.requests if request.answer.status not in (200, 503)]
    hold(all(request.done > killed for request in failed), "nothing fails but what met the end of a node", failed)
    return (f"{len(editors.requests)} admin requests of {len(editors.people)} editors: done {done_by}, 0 twice, 0 by a clone; {len(refused(editors.requests))} "
            f"refused with 503, {len(failed)} answered 502 when a node was killed; all were refused from {contested - doubted:.1f} s after the second "
            f"claim on; the other one took over {taken - alone:.1f} s after the first gave up, and the first {back - claimed:.1f} s after it claimed again")


def notes(cluster, load):
    """Notes are written at the authority and read from clones, which are a second behind: who has just written reads their own at once"""
    cookies, in_time, wrong = {}, 0, []
    for number in range(NOTES):
        begun = time.monotonic()
        text = f"note {number} of {begun}"
        written = ask(cluster, "POST", "/notes", body=text.encode())
        cookies[text] = "cookie: " + "; ".join(f"{name}={value}" for name, value in written.cookies)
        own, other = ask(cluster, "GET", "/notes", [cookies[text]]), ask(cluster, "GET", "/notes")
        if (written.status, written.node) != (201, "authority") or not other.node.startswith("app-"):
            wrong.append(f"written {written.status} by {written.node}, read by others at {other.node}")
        if time.monotonic() - begun > 0.9:
            continue  # a machine too busy to tell
        in_time += 1
        if own.node != "authority" or text.encode() not in own.body:
            wrong.append(f"{text} is not there for who has written it: {own.status} by {own.node}")
        if text.encode() in other.body:
            wrong.append(f"{text} is there for others at once, so that nothing would be proved")
    hold(not wrong, "who has written reads their own, at the authority; others read at a clone", wrong)
    hold(in_time, "a note is read within a second")
    time.sleep(2.5)
    later = {text: ask(cluster, "GET", "/notes", [cookie]) for text, cookie in cookies.items()}
    wrong = [f"{text}: {answer.status} by {answer.node}" for text, answer in later.items()
             if not answer.node.startswith("app-") or text.encode() not in answer.body]
    hold(not wrong, "later they read at clones again", wrong)
    return f"{NOTES} notes written at the authority; {in_time} of {in_time} read there at once by who wrote them; {len(later)} of {NOTES} read at clones later"


def spelling(cluster, load):
    """The way to /admin spelled oddly ends at the authority or is refused; never at a clone"""
    at_authority, refused, wrong = 0, 0, []
    for number, path in enumerate(SPELLINGS):
        answer = ask(cluster, "POST", path, [f"idempotency-key: spelling-{number}"])
        if answer.status == 200 and answer.node == "authority":
            at_authority += 1
        elif answer.status == 400 and not answer.node:
            refused += 1
        else:
            wrong.append(f"{path}: {answer.status} by {answer.node or 'nobody'}")
    hold(not wrong, "a spelling of /admin ends at the authority or is refused", wrong)
    noted = done(cluster, "spelling-")
    hold({node for node, _ in noted.values()} == {"authority"}, "nobody but the authority does admin work", noted.items())
    hold(len(noted) == at_authority, "what is refused is not done", noted.items())
    beside = ask(cluster, "POST", "/administrator", [])
    hold(beside.status == 404 and beside.node.startswith("app-"), "/administrator is not /admin", [f"{beside.status} by {beside.node}"])
    return f"{len(SPELLINGS)} spellings: {at_authority} at the authority, {refused} refused with 400, 0 at a clone"


def images(cluster, load):
    """Images come from nginx, as they are on its disk"""
    name = "clone.svg"
    with open(os.path.join(HERE, "images", name), "rb") as file:
        content = file.read()
    answers = [ask(cluster, "GET", f"/images/{name}") for _ in range(10)]
    good = [one for one in answers if one.status == 200 and one.body == content and one.node == "images" and "nginx" in one.headers.get("server", "")]
    hold(len(good) == len(answers), "images are nginx's", [f"{one.status} by {one.node} {one.headers}" for one in answers if one not in good])
    return f"{len(good)} of {len(answers)} from nginx, {len(content)} bytes each, equal to the file"


SPELLINGS = [
    "/admin", "/admin/", "/admin/users", "//admin", "///admin//users", "/%61dmin", "/%61%64%6d%69%6e/x", "/x/../admin", "/x/%2e%2e/admin", "/./admin",
    "/x%2f..%2fadmin", "/ADMIN", "/Admin/users", "/admin;x", "/admin;a=b/users", "/x/..;/admin", "/%2561dmin", "/admin%2fusers", "/%41DMIN",
    "/admin.", "/admin%20", "/admin%00", "/\\admin", "/x/..\\admin", "/assets/../admin", "/assets/%2e%2e/admin", "/images/..%2fadmin", "/images/../admin/x",
    "https://localhost/%61dmin", "https://localhost/x/..%2fadmin",
]
STEPS = [log_in, kill, roll, flip, mended, killed_in_flip, killed_in_roll, authority, notes, spelling, images]


def deploy_to_next(cluster, version):
    """The half that stands by can be restarted at any time: nobody is there."""
    cluster.do("roll", "app", "--only", "next-1", "--only", "next-2", "--max-unavailable", "2", "--hook", cluster.deploy(version),
               "--hook-timeout", "30s", "--expect-version", version)


def done(cluster, prefix):
    """Which node has done admin work with such a key, and how often: by key."""
    words = cluster.redis("HGETALL", "done")
    found = {}
    for name, count in zip(words[::2], words[1::2]):
        key, node = name.rsplit(" ", 1)
        if key.startswith(prefix):
            hold(key not in found, "no admin request is done by two nodes", [f"{key}: {found.get(key)} and {node}"])
            found[key] = (node, int(count))
    return found


def by(crowd, node):
    return [request for request in list(crowd.requests) if request.answer.status == 200 and request.answer.node == node.name]


def refused(requests):
    return [request for request in requests if request.answer.status == 503]


def endpoint(cluster, upstream, name):
    """What the status tells of it."""
    upstreams = json.loads(cluster.ask("/api/v1/status"))["upstreams"]
    endpoints = next(one for one in upstreams if one["name"] == upstream)["endpoints"]
    return next(one for one in endpoints if one["name"] == name)


def shares(load):
    return ", ".join(f"{node} {count}" for node, count in sorted(load.nodes().items()))
