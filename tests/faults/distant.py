"""What clients see when the network between the balancer and its app servers fails. Each app server is in a network namespace
of its own, and so is the balancer with its clients."""

import asyncio
import os
import random
import time

import machine
from apps import FAST_CHECKS, REPEATABLE, App, forwarding
from client import Client, percentile
from names import Names
from network import Network
from single import Balancer
from verdict import judge


def hole(options, directory):
    """A machine is gone without a word: first for new connections only, which no client sees; then wholly, which those do not see
    whose request may be repeated."""
    good = True
    for gone, timeouts in (("syn", 'connect = "500ms", max_age = "100ms"'), ("all", 'connect = "500ms", response_head = "1s"')):
        own, network, apps = far(directory, gone, 3)
        more = FAST_CHECKS + f"timeouts = {{ {timeouts} }}\nretry = {{ on_timeout = true }}\n"
        with Balancer(options.balancer, own, forwarding(apps, more)) as balancer:
            requests, at, noticed = asyncio.run(
                during(balancer, lambda: network.wire(0, hole=gone), lambda: network.wire(0), 3, 1))
        # What may not be repeated and was on its way there has got no answer; and nobody knows before it is noticed.
        excused = []
        if gone == "all":
            excused = [request for request in requests if request.method not in REPEATABLE and request.status == 504
                       and at - 0.5 < request.sent < noticed + 0.1]
        print(f"hole: {'new connections' if gone == 'syn' else 'everything'}: noticed after {noticed - at:.2f} s", flush=True)
        good &= judge("hole", requests, apps, excused, "sent before it was noticed, and not to be repeated")
        machine.stop_all()
    return good


def loss(options, directory):
    """200 ms there and back, and every twentieth packet lost each way: slow, and no request fails, of any method."""
    own, network, apps = far(directory, "loss", 3)
    with Balancer(options.balancer, own, forwarding(apps, CHECKS)) as balancer:
        for number in range(3):
            network.wire(number, delay=0.1, loss=0.05)
        requests = asyncio.run(Client(balancer.port, timeout=30).run(60, 6, method))
        lost = balancer.metric("balancer_upstream_available_endpoints")
    print(f"loss: p50 {percentile(requests, 0.5):.0f} ms, p99 {percentile(requests, 0.99):.0f} ms, {lost:g} of 3 in use in the end",
          flush=True)
    return judge("loss", requests, apps)


def link(options, directory):
    """A link goes down while responses come over it. Those end early, and every client can tell; no other fails."""
    own, network, apps = far(directory, "link", 3)
    for app in apps:
        app.control("drip:10:0.1")
    more = FAST_CHECKS + ('timeouts = { connect = "500ms", response_head = "1s", stream_idle = "1s" }\n'
                          'retry = { on_timeout = true }\n')
    with Balancer(options.balancer, own, forwarding(apps, more)) as balancer:
        requests, at, _ = asyncio.run(during(
            balancer, lambda: network.link(0, "down"), lambda: network.link(0, "up"), 3, 1, rate=60, chosen=lambda: "GET"))
    excused = [request for request in requests if request.by == "0" and request.status == 0 and request.sent < at]
    short = [request for request in requests if request.status == 200 and request.length != 10_000]
    print(f"link: {len(short)} taken for whole that were not", flush=True)
    return judge("link", requests, apps, excused, "under way over that link, and visibly cut") and not short


def half(options, directory):
    """Four of eight app servers are gone at once: killed, then without a word. Whoever may ask five finds one of the others."""
    good = True
    for how in ("killed", "silent"):
        own, network, apps = far(directory, how, 8)
        more = FAST_CHECKS + ('timeouts = { connect = "500ms", response_head = "1s" }\n'
                              'retry = { on_timeout = true, attempts = 5 }\n')

        def begin():
            for number in range(4):
                if how == "killed":
                    apps[number].kill()
                else:
                    network.wire(number, hole="all")

        def end():
            for number in range(4):
                if how == "killed":
                    apps[number].start()
                else:
                    network.wire(number)

        with Balancer(options.balancer, own, forwarding(apps, more)) as balancer:
            requests, at, noticed = asyncio.run(during(balancer, begin, end, 3, 4))
        excused = [request for request in requests if request.method not in REPEATABLE and request.status in (502, 504)
                   and at - 0.5 < request.sent < noticed + 0.1]
        print(f"half: {how}: noticed after {noticed - at:.2f} s", flush=True)
        good &= judge("half", requests, apps, excused, "sent before it was noticed, and not to be repeated")
        machine.stop_all()
    return good


def name(options, directory):
    """The name of an app server is gone, then nobody knows, then it is elsewhere: it is used where it was, and then there."""
    own, network, apps = far(directory, "name", 2)
    names = Names(own)
    names.state = apps[0].host
    body = forwarding(apps[:1], FAST_CHECKS).replace(apps[0].host, "app.test")

    async def going():
        client = Client(balancer.port)
        states = ("gone", "silent", apps[1].host)
        sending = asyncio.create_task(client.run(150, 3 * options.pause + 4, method))
        for state in states:
            await asyncio.sleep(options.pause)
            names.state = state
            before = names.asked
            if options.pause < 30:
                # The balancer asks every 30 seconds, and when it reads its file.
                balancer.reload(body)
            while names.asked == before:
                await asyncio.sleep(0.05)
        return await sending

    with Balancer(options.balancer, own, body) as balancer:
        requests = asyncio.run(going())
    names.end()
    moved = requests[-1].by == "1"
    print(f"name: asked for {names.asked} times, in the end requests go to app server {requests[-1].by}", flush=True)
    return judge("name", requests, apps) and moved


def far(directory, what, count):
    """So many app servers, far away."""
    own = os.path.join(directory, what)
    os.makedirs(own)
    network = Network(own, count)
    return own, network, [App(own, number, place=place) for number, place in enumerate(network.places)]


async def during(balancer, begin, end, seconds, lost, rate=150, chosen=None):
    """Requests, and trouble in the midst of them that makes the balancer notice that `lost` app servers are gone, or for so many
    seconds. Returns the requests, when it began and when it was noticed."""
    client = Client(balancer.port)
    there = balancer.metric("balancer_upstream_available_endpoints")
    sending = asyncio.create_task(client.run(rate, seconds + 4, chosen or method))
    await asyncio.sleep(1.5)
    at = time.monotonic()
    await asyncio.to_thread(begin)
    noticed = at + seconds
    while time.monotonic() < at + seconds:
        if await asyncio.to_thread(balancer.metric, "balancer_upstream_available_endpoints") <= there - lost:
            noticed = time.monotonic()
            await asyncio.sleep(at + seconds - noticed)
        await asyncio.sleep(0.02)
    await asyncio.to_thread(end)
    return await sending, at, noticed


def method():
    return random.choice(("GET", "GET", "POST", "PUT"))


# Round trips of 200 ms and more, where a packet is lost.
CHECKS = 'health = { path = "/healthz", interval = "3s", fast_interval = "1s", timeout = "3s" }\n'
SCENARIOS = {"hole": hole, "loss": loss, "link": link, "half": half, "name": name}
