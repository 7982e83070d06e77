"""What clients see of app servers that are there and do badly: they reset connections, dawdle, fail for a while, come and go."""

import asyncio
import os
import random

import machine
from apps import FAST_CHECKS, REPEATABLE, App, forwarding
from client import Client, percentile
from single import Balancer
from verdict import judge



def reset(options, directory):
    """One of three resets every connection: before its answer, then within it. What was answered by half cannot be asked for
    again; its client can tell."""
    good = True
    for mode in ("reset", "break"):
        own, apps = near(directory, mode)
        with Balancer(options.balancer, own, forwarding(apps, FAST_CHECKS)) as balancer:
            requests = asyncio.run(ailing(balancer, apps[:1], mode, 3))
        if mode == "reset":
            excused = [request for request in requests if request.method not in REPEATABLE and request.status == 502]
            why = "not to be repeated"
        else:
            excused = [request for request in requests if request.by == "0" and request.status == 0]
            why = "answered by half, and visibly so"
        good &= judge("reset", requests, apps, excused, why)
        machine.stop_all()
    return good


def loris(options, directory):
    """One of three answers byte by byte: a head that takes for ever is as good as none; a body that comes slowly comes whole, and
    is in nobody's way."""
    good = True
    for mode in ("head:0.1", "drip:10:0.3"):
        own, apps = near(directory, mode[:4])
        # Patience that ends before the head does, and not for those that only have to wait for a core.
        more = 'timeouts = { response_head = "1s" }\nretry = { on_timeout = true }\n' if mode.startswith("head") else ""
        with Balancer(options.balancer, own, forwarding(apps, FAST_CHECKS + more)) as balancer:
            requests = asyncio.run(ailing(balancer, apps[:1], mode, 3))
        excused = []
        if mode.startswith("head"):
            excused = [request for request in requests if request.method not in REPEATABLE and request.status == 504]
        others = [request for request in requests if request.by in ("1", "2") and request.seconds < 0.5]
        print(f"loris: {mode}: p99 of the others' {percentile(others, 0.99):.0f} ms", flush=True)
        good &= judge("loris", requests, apps, excused, "not to be repeated")
        machine.stop_all()
    return good


def burst(options, directory):
    """Now one, now another of three answers 503 for a while: nobody sees it whose request may be repeated."""
    own, apps = near(directory, "burst")
    more = "retry = { statuses = [503] }\n"

    async def bursts():
        client = Client(balancer.port)
        sending = asyncio.create_task(client.run(150, 6, method))
        while not sending.done():
            app = random.choice(apps)
            await asyncio.to_thread(app.control, "status:503")
            await asyncio.sleep(0.4)
            await asyncio.to_thread(app.control, "well")
            await asyncio.sleep(0.3)
        return await sending

    with Balancer(options.balancer, own, forwarding(apps, FAST_CHECKS + more)) as balancer:
        requests = asyncio.run(bursts())
    excused = [request for request in requests if request.method not in REPEATABLE and request.status == 503 and request.by]
    return judge("burst", requests, apps, excused, "not to be repeated")


def flap(options, directory):
    """One of three is killed and started again all the time."""
    own, apps = near(directory, "flap")

    async def flapping():
        client = Client(balancer.port)
        sending = asyncio.create_task(client.run(150, 6, method))
        while not sending.done():
            await asyncio.sleep(0.4)
            apps[0].kill()
            await asyncio.sleep(0.2)
            await asyncio.to_thread(apps[0].start)
        return await sending

    with Balancer(options.balancer, own, forwarding(apps, FAST_CHECKS)) as balancer:
        requests = asyncio.run(flapping())
    excused = [request for request in requests if request.method not in REPEATABLE and request.status == 502]
    return judge("flap", requests, apps, excused, "on its way there, and not to be repeated")


def near(directory, what):
    own = os.path.join(directory, what)
    os.makedirs(own)
    return own, [App(own, number) for number in range(3)]


async def ailing(balancer, apps, mode, seconds):
    """Requests, and in the midst of them some app servers that do badly."""
    client = Client(balancer.port)
    sending = asyncio.create_task(client.run(150, seconds + 3, method))
    await asyncio.sleep(1)
    for app in apps:
        await asyncio.to_thread(app.control, mode)
    await asyncio.sleep(seconds)
    for app in apps:
        await asyncio.to_thread(app.control, "well")
    return await sending


def method():
    return random.choice(("GET", "GET", "POST", "PUT"))


SCENARIOS = {"reset": reset, "loris": loris, "burst": burst, "flap": flap}
