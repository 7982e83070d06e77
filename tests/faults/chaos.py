"""Faults, reloads and load at random, and what is left when all is quiet again."""

import asyncio
import os
import random
import signal
import time
import urllib.error
from collections import Counter

from apps import FAST_CHECKS, App, delivered_twice
from client import Client, failures, percentile
from single import Balancer

RATE = 400
BLOCKING = "tokio-rt-worker"
BLOCKING_AT_REST = 6  # the points of the history, every five seconds, keep two or three; what hangs has one for every reload
POLICIES = ("round-robin", "least-connections", "two-choices", "peak-ewma", "random", "hash")


def run(options, directory):
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    random.seed(seed)
    print(f"chaos: {options.seconds} s, seed {seed}", flush=True)
    apps = [App(directory, index, keep_alive=random.choice((1.0, 3.0, 60.0))) for index in range(4)]
    with Balancer(options.balancer, directory, configuration(apps)) as balancer:
        wrong = asyncio.run(everything(balancer, apps, options.seconds))
        said = balancer.process.complaint()
        if "panicked" in said:
            wrong.append(f"it panicked: {said}")
        if balancer.process.has_ended():
            wrong.append(f"it ended: {said}")
    for fault in wrong:
        print(f"chaos: WRONG: {fault}", flush=True)
    return not wrong


def configuration(apps):
    """Another one each time: some of the app servers, some weights, some policy."""
    chosen = random.sample(apps, random.randint(2, len(apps)))
    endpoints = ", ".join(f'{{ address = "{app.address}", weight = {random.randint(1, 5)} }}' for app in chosen)
    policy = random.choice(POLICIES)
    return f"""
[upstream.app]
policy = "{policy}"
endpoints = [{endpoints}]
timeouts = {{ response_head = "1s" }}
retry = {{ on_timeout = true }}
{FAST_CHECKS}[[route]]
path = "/"
upstream = "app"
"""


async def everything(balancer, apps, seconds):
    client = Client(balancer.port, timeout=15)
    # What there is after trouble is compared with what there was after trouble: a balancer that has just begun has less.
    await through(balancer, apps, client, min(15, seconds / 3))
    await client.run(RATE, 3, method)
    await quiet(balancer, client)
    before = state(balancer)
    print(f"chaos: warm: {before}", flush=True)
    client.finished.clear()
    await through(balancer, apps, client, seconds)
    # As before: the same load, and then nothing.
    client.finished, all_requests = [], client.finished
    calm = await client.run(RATE, 3, method)
    await quiet(balancer, client)
    return verdict(balancer, apps, all_requests, calm, before)


async def through(balancer, apps, client, seconds):
    """So many seconds of trouble, after which all is well."""
    end = time.monotonic() + seconds
    sending = asyncio.create_task(client.run(RATE, seconds, method))
    faults = asyncio.create_task(trouble(apps, end))
    reloads = asyncio.create_task(reloading(balancer, apps, end))
    leaving = asyncio.create_task(left(client, end))
    last = 0
    while not sending.done():
        await asyncio.wait([sending], timeout=10)
        now = client.finished[last:]
        last = len(client.finished)
        print(f"chaos: {max(0, end - time.monotonic()):4.0f} s left, {len(now)} requests, "
              f"{sum(failures(now).values())} failed, p99 {percentile(now, 0.99):.0f} ms", flush=True)
    await asyncio.gather(sending, faults, reloads, leaving)
    for app in apps:
        await asyncio.to_thread(app.control, "well")
    balancer.reload(configuration(apps))
    await asyncio.sleep(3)


def method():
    return random.choice(("GET", "GET", "GET", "POST", "PUT", "HEAD"))


async def trouble(apps, end):
    """One fault after another, some at once; each app server is well again in the end."""
    async def one(app):
        fault = random.choice(("kill", "stop", "reset", "cut", "status:503", "status:500", "slow:0.3", "slow:2"))
        pause = random.uniform(0.2, 2.0)
        if fault == "kill":
            app.kill()
            await asyncio.sleep(pause)
            await asyncio.to_thread(app.start)
        elif fault == "stop":
            app.signal(signal.SIGSTOP)
            await asyncio.sleep(pause)
            app.signal(signal.SIGCONT)
        else:
            await asyncio.to_thread(app.control, fault)
            await asyncio.sleep(pause)
            await asyncio.to_thread(app.control, "slow:0")
            await asyncio.to_thread(app.control, "well")

    busy = {}
    while time.monotonic() < end - 3:
        app = random.choice(apps)
        if app not in busy or busy[app].done():
            busy[app] = asyncio.create_task(one(app))
        await asyncio.sleep(random.uniform(0.1, 1.0))
    await asyncio.gather(*busy.values())


async def reloading(balancer, apps, end):
    while time.monotonic() < end - 3:
        await asyncio.sleep(random.uniform(0.2, 1.5))
        balancer.reload(configuration(apps))


async def left(client, end):
    while time.monotonic() < end - 1:
        await asyncio.gather(*(client.leave() for _ in range(5)))
        await asyncio.sleep(0.1)


async def quiet(balancer, client):
    """Nothing is open any more, on either side."""
    client.close()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        if not await asyncio.to_thread(balancer.metric, "balancer_upstream_connections"):
            break
    # Threads of the blocking pool end after ten seconds without work, the last of which is to clear away, a minute after a reload,
    # what that has removed.
    deadline = time.monotonic() + 90
    await asyncio.sleep(11)
    while blocking(state(balancer)) > BLOCKING_AT_REST and time.monotonic() < deadline:
        await asyncio.sleep(0.5)


def state(balancer):
    pid = balancer.process.pid
    return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": Counter(threads(pid)),
            "memory_kib": balancer.process.anonymous()}


def threads(pid):
    """The name of each; one of the blocking pool may end while this reads."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as file:
                yield file.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            pass


def blocking(seen):
    return seen["threads"][BLOCKING]


def lasting(seen):
    return {name: count for name, count in seen["threads"].items() if name != BLOCKING}


def verdict(balancer, apps, requests, calm, before):
    wrong = []
    after = state(balancer)
    print(f"chaos: after: {after}", flush=True)
    counted = failures(requests)
    print(f"chaos: {len(requests)} requests, failed: {sum(counted.values())}: "
          f"{', '.join(f'{count} x {status} {said}' for (status, said), count in counted.most_common(12))}", flush=True)
    by_method = {name: sum(failures(r for r in requests if r.method == name).values()) for name in ("GET", "HEAD", "PUT", "POST")}
    print(f"chaos: failed by method: {by_method}", flush=True)
    if failures(calm):
        wrong.append(f"requests fail when all is well again: {dict(failures(calm))}")
    for gauge in ("balancer_upstream_in_flight", "balancer_requests_in_flight", "balancer_queue_length",
                  "balancer_upstream_connections", "balancer_connections", "balancer_tunnels"):
        value = balancer.metric(gauge)
        if value:
            wrong.append(f"{gauge} is {value:g}, not 0")
    if after["descriptors"] > before["descriptors"] + 2:
        wrong.append(f"descriptors: {before['descriptors']} before, {after['descriptors']} after")
    if lasting(after) != lasting(before):
        wrong.append(f"threads: {lasting(before)} before, {lasting(after)} after")
    if blocking(after) > BLOCKING_AT_REST:
        wrong.append(f"threads of the blocking pool: {blocking(after)}, and at rest there are no more than {BLOCKING_AT_REST}")
    # Huge pages come and go in whole.
    if after["memory_kib"] > 1.5 * before["memory_kib"] + 16 * 1024:
        wrong.append(f"memory: {before['memory_kib']} KiB before, {after['memory_kib']} KiB after")
    # Without a number: control and those who left. Numbers begin again with no client.
    twice = sorted(delivered_twice(apps))
    if twice:
        wrong.append(f"delivered twice: {twice[:5]} and {max(0, len(twice) - 5)} more")
    try:
        balancer.metric("balancer_build_info")
    except (OSError, urllib.error.URLError) as error:
        wrong.append(f"/metrics: {error}")
    return wrong
