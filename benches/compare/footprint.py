"""What the balancer takes while it does nothing: memory of what is open or configured, CPU time at rest."""

import asyncio
import os
import sys
import time

import certificate
import fixed_rate
import holding
import load
import origins
from machine import LOAD_CORE, Process, Refused, free_port, open_files, port_range, wait_for_port
from single import Balancer, forwarding, routes
from tools import needed


def memory(program, directory):
    """KiB per idle connection, and what remains of many; per endpoint and per route."""
    _connections(program, directory)
    _upstream_connections(program, directory)
    _configuration(program, directory)


def _connections(program, directory):
    made = certificate.make(directory)
    body = forwarding(origins.start(directory).addresses())
    lowest, highest = port_range()
    count = min(10_000, open_files() * 2 // 5, (highest - lowest) * 9 // 10)  # as many are kept for app servers
    for what, shown, h2 in (("plain", None, False), ("TLS", made, False), ("h2 over TLS", made, True)):
        with Balancer(program, directory, body, certificate=made) as balancer:
            port = balancer.https if shown else balancer.port

            def hold(count):
                with holding.Held(directory, port, count, shown, h2) as held:
                    held.settle()
                    return balancer.process.anonymous(), held.close()

            hold(holding.WARM_UP)
            before = balancer.process.anonymous()
            during, lost = hold(count)
            print(f"memory: {(during - before) / count:.1f} KiB per idle connection, {what}: {during / 1024:.1f} MiB with "
                  f"{count:,} ({lost} lost), {before / 1024:.1f} before, {_returned(balancer)}", flush=True)


def _returned(balancer):
    """What remains once all is closed. An allocator may wait for something to do before it gives memory back: also after
    a few more requests."""
    time.sleep(holding.SETTLE_SECONDS)
    closed = balancer.process.anonymous()
    asyncio.run(fixed_rate.send(balancer.port, "/1k", 50, 2))
    time.sleep(1)
    return f"{closed / 1024:.1f} after, {balancer.process.anonymous() / 1024:.1f} after 100 more requests"


def _upstream_connections(program, directory):
    """Requests that all wait for a slow app server take a connection each. Few client connections carry them."""
    h2load, made = needed("h2load", "it makes the load"), certificate.make(directory)
    port, counter, here = free_port(), os.path.join(directory, "counter"), os.path.dirname(os.path.abspath(__file__))
    with open(counter, "wb") as file:
        file.write(bytes(4))
    addresses = _loopback(10, port)  # an endpoint keeps so many idle connections, and no more
    app = Process("app", [sys.executable, os.path.join(here, "app.py"), str(port), "1000", counter,
                          *(address.split(":")[0] for address in addresses)], LOAD_CORE, directory)
    wait_for_port(app, port)
    body = forwarding(addresses, 'timeouts = { pool_idle = "8s" }')
    with Balancer(program, directory, body, certificate=made) as balancer:
        def burst(count):
            """So many requests at once, from 20 connections."""
            result = load.h2load(h2load, directory, f"https://127.0.0.1:{balancer.https}/", 2, "-c20", f"-m{count // 20}",
                                 f"-n{count}")
            time.sleep(holding.SETTLE_SECONDS)
            return count - result.requests, int(balancer.metric("balancer_upstream_connections", 'state="idle"'))

        burst(20)
        before = balancer.process.anonymous()
        failed, count = burst(BURST)
        during = balancer.process.anonymous()
        if count < BURST * 0.9:
            raise Refused(f"{count} of {BURST} upstream connections are idle after {BURST} requests, {failed} of which failed")
        time.sleep(5)  # until they are closed
        print(f"memory: {(during - before) / count:.1f} KiB per idle upstream connection, with what {BURST:,} requests at "
              f"once leave behind: {during / 1024:.1f} MiB with {count:,} ({failed} requests failed), "
              f"{before / 1024:.1f} before, {_returned(balancer)}", flush=True)


def _configuration(program, directory):
    one = forwarding(["127.0.0.1:9"])
    bodies = [one, forwarding(["127.0.0.1:9", *_loopback(ENDPOINTS, 9)]), one + routes("many", ROUTES)]
    running = [Balancer(program, directory, body) for body in bodies]
    time.sleep(holding.SETTLE_SECONDS)
    base, endpoints, many = (balancer.process.anonymous() for balancer in running)
    for balancer in running:
        balancer.process.stop()
    print(f"memory: {(endpoints - base) / ENDPOINTS:.2f} KiB per endpoint ({ENDPOINTS:,} more), "
          f"{(many - base) / ROUTES:.2f} KiB per route ({ROUTES:,} more), after the start", flush=True)


def rest(program, directory):
    """Share of a core taken while no request comes."""
    made = certificate.make(directory)
    port = origins.start(directory, 1, "0.0.0.0").ports[0]
    addresses = _loopback(ENDPOINTS, port)
    checked = forwarding(addresses, 'health = { path = "/healthz", interval = "5s" }')
    cases = [(f"{ENDPOINTS:,} endpoints checked every 5 s", checked, 0),
             (f"{ENDPOINTS:,} endpoints", forwarding(addresses), 0),
             ("1 endpoint", forwarding(addresses[:1]), 0),
             (f"1 endpoint, {HELD:,} idle connections", forwarding(addresses[:1]), HELD)]
    for what, body, count in cases:
        with Balancer(program, directory, body, certificate=made) as balancer:
            held = holding.Held(directory, balancer.port, count) if count else None
            time.sleep(SETTLE_SECONDS)
            before, start = _spent(balancer), time.monotonic()
            time.sleep(REST_SECONDS)
            share = (_spent(balancer) - before) / (time.monotonic() - start) / 1e6
            lost = held.close() if held else 0
            print(f"rest: {share:.2%} of a core with {what}" + (f" ({lost} lost)" if count else ""), flush=True)


def _spent(balancer):
    return sum(balancer.process.cpu_by_thread().values())


def _loopback(count, port):
    """So many addresses that all lead to this machine."""
    return [f"127.0.{1 + index // 250}.{1 + index % 250}:{port}" for index in range(count)]


ENDPOINTS, ROUTES, HELD, BURST = 1000, 10_000, 1000, 2000
SETTLE_SECONDS, REST_SECONDS = 6, 20  # the first checks come at once, not spread over the interval
