"""What a mock tells: believable, hostile, huge, empty. Each function gives a whole `/api/v1/status`."""

import time

from mock import endpoint, status, upstream

MARKUP = "<img src=x onerror=window.hacked=1>"
SCRIPT = "\"'></title></style><script>window.hacked=1</script>"
LONG = "checkout-7d9f8b6c5d-x2x9p.a-very-long-namespace-that-somebody-chose.svc.cluster.local:8080"


def well():
    app = [endpoint(number, f"10.0.0.{number}:8080", load=110 - 9 * number) for number in range(1, 5)]
    api = [endpoint(10 + number, f"10.0.1.{number}:9000", load=70) for number in range(1, 4)]
    media = [endpoint(30 + number, f"media-{number}.internal:80", load=25) for number in range(1, 5)]
    return status(
        [upstream("app", app), upstream("api", api, "peak-ewma"), upstream("authority", [endpoint(20, "10.0.0.9:8080", load=4)], "round-robin"),
         upstream("media", media, "hash")],
        [{"name": "/", "upstream": "app", "load": 310}, {"name": "/admin", "upstream": "authority", "load": 4},
         {"name": "api.example.com/", "upstream": "api", "load": 190, "listeners": ["https"]}, {"name": "/media", "upstream": "media", "load": 90}],
        ("https", "http"))


def trouble():
    told, now = well(), int(time.time())
    app, api, _, media = told["upstreams"]
    hurt(app, 2, state="down", reason="connect failed: Connection refused (os error 111)", since=now - 258, retries=17)
    hurt(media, 1, state="ejected", ejected={"reason": "rate", "until": now + 22}, since=now - 9, retries=5,
         reason="5 failures in a row, the last: response head timed out after 2s")
    hurt(api, 0, state="draining", mode="draining", since=now - 70, tunnels=2, version="2.14.0", retries=1)
    api["endpoints"][0].update(in_flight=5, load=0.4)
    return told


def nobody():
    """An upstream without anybody left, and a reload that was refused."""
    told, now = well(), int(time.time())
    hurt(told["upstreams"][2], 0, state="down", reason="check timed out after 2s", since=now - 42)
    told["last_reload"] = {"by": "signal", "result": "rejected", "at": now - 130, "why": None}
    told["admin"]["writable"] = True
    return told


def hurt(group, index, **what):
    group["endpoints"][index].update(in_flight=0, eligible=False, load=0, health="down", **what)
    left = sum(one["eligible"] for one in group["endpoints"])
    spare = max(0, left - 2)
    group.update(available=left, headroom={**group["headroom"], "could_lose": spare, "could_lose_at_peak": spare, "of": left})


def hostile():
    """Names, versions and reasons as no configuration allows them, or an endpoint might answer."""
    now = int(time.time())
    bad = endpoint(1, MARKUP, state="down", reason=MARKUP + SCRIPT, version=MARKUP + SCRIPT, since=now - 30, load=0)
    odd = [endpoint(2, LONG, version="2026.11.22-rc1+build.5512"), endpoint(3, "javascript:alert(1)", reason=SCRIPT), endpoint(4, "__proto__"), endpoint(5, "")]
    told = status([upstream(MARKUP, [bad, *odd]), upstream("constructor", [endpoint(6, SCRIPT, state=MARKUP)])],
                  [{"name": SCRIPT, "upstream": MARKUP}, {"name": "__proto__", "upstream": "constructor"}], (MARKUP,), is_writable=True)
    told["version"] = MARKUP
    told["last_reload"] = {"by": SCRIPT, "result": "rejected", "at": now - 20, "why": MARKUP}
    told["listeners"][0]["certificates"] = [{"label": MARKUP, "names": [SCRIPT], "not_after": now + 86400}]
    return told


def huge(groups=40, each=25):
    """A thousand endpoints, three of them down."""
    now = int(time.time())
    upstreams = [upstream(f"shop-{group:02}", [endpoint(group * each + number, f"10.{group}.0.{number}:8080", load=group % 7 * 3 + 1)
                                              for number in range(each)]) for group in range(groups)]
    for group, index in ((3, 4), (3, 9), (17, 2)):
        hurt(upstreams[group], index, state="down", reason="connect failed: Connection refused (os error 111)", since=now - 65)
    routes = [{"name": f"shop-{group:02}.example.com/", "upstream": f"shop-{group:02}", "load": group * 4} for group in range(groups)]
    return status(upstreams, routes, ("https", "http"))


def one():
    told = status([upstream("app", [endpoint(1, "127.0.0.1:9001", state="unchecked", version=None, retries=None, load=0, in_flight=0)], "round-robin")],
                  [{"name": "/", "upstream": "app", "load": 0}], ("http",))
    told.update(generation=1, last_reload=None, started=int(time.time()) - 40)
    return told


def empty():
    told = status([], [], ())
    told.update(generation=1, last_reload=None)
    return told
