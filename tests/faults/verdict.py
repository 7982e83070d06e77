"""Whether what clients saw is within its bounds."""

from apps import delivered_twice
from client import failures


def judge(name, requests, apps, excused=(), why=""):
    """No request failed but those that are excused, and nothing arrived twice that must not. Says so."""
    wrong, known = failures(requests), failures(excused)
    twice = delivered_twice(apps)
    print(f"{name}: {len(requests)} requests, {sum(wrong.values())} failed {dict(wrong) or ''}", end="")
    if known:
        print(f", {sum(known.values())} of them {why}", end="")
    print(f"; longest {max(request.seconds for request in requests):.2f} s, {len(twice)} delivered twice that must not be", flush=True)
    for request in [request for request in requests if request.status != 200 and request not in excused][:5]:
        print(f"{name}: WRONG: {request}")
    return wrong == known and not twice
