"""How two workers share: connections and work between them, and two cores."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import certificate
import load
import origins
from machine import ESTABLISHED, LISTENING, LOAD_CORE, PROXY_CORE, Refused, descriptors, sockets_of
from single import Balancer, forwarding
from tools import needed


def spread(program, directory):
    """How evenly long-lived connections, all with the same rate, come to two workers. Below saturation: above it both
    workers are busy, however many connections each has."""
    h2load = needed("h2load", "it makes the load")
    with Balancer(program, directory, forwarding(origins.start(directory).addresses()), BOTH_CORES, workers=2,
                  certificate=certificate.make(directory)) as balancer:
        for protocol, connections in (("h2", 8), ("h2", 16), ("h2", 64), ("h1", 64)):
            if protocol == "h2":
                scheme, port, what, options = "https", balancer.https, "h2 over TLS", ["-m8"]
            else:
                scheme, port, what, options = "http", balancer.port, "h1 keep-alive", ["--h1"]
            busier, fuller = [], []
            for _ in range(SPREAD_RUNS):
                thread = threading.Thread(target=load.h2load, daemon=True, args=(
                    h2load, directory, f"{scheme}://127.0.0.1:{port}/1k", 2, *options, f"-c{connections}", "-D2",
                    f"--rps={SPREAD_RATE / connections}"))
                thread.start()
                time.sleep(0.4)
                before, counts = _workers(balancer), _connections(balancer, port)
                time.sleep(1.2)
                spent = [_workers(balancer)[name] - before[name] for name in before]
                thread.join()
                if sum(counts) != connections:
                    raise Refused(f"{sum(counts)} of {connections} connections are open")
                fuller.append(max(counts) * len(counts) / connections)
                busier.append(max(spent) * len(spent) / sum(spent))
            print(f"spread: {connections} connections of {what} on 2 workers, {SPREAD_RUNS} times, {SPREAD_RATE:,} "
                  f"requests/s: busier worker's CPU ÷ mean: median {median(busier):.2f}, worst {max(busier):.2f}; "
                  f"its connections ÷ mean: median {median(fuller):.2f}, worst {max(fuller):.2f}", flush=True)


def _workers(balancer):
    return {name: spent for name, spent in balancer.process.cpu_by_thread().items() if name.startswith("worker-")}


def _connections(balancer, port):
    """How many connections to a listener each worker has: one epoll instance watches both, and no other worker's."""
    pid = balancer.process.pid
    listening, established = sockets_of(port, LISTENING), sockets_of(port, ESTABLISHED)
    by_listener = {}
    for number, name in descriptors(pid).items():
        if name != "anon_inode:[eventpoll]":
            continue
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as lines:
            inodes = (line.partition(" ino:")[2].split()[0] for line in lines if line.startswith("tfd:"))
            watched = {f"socket:[{int(inode, 16)}]" for inode in inodes}
        if watched & listening:  # an instance may have several descriptors
            by_listener[frozenset(watched & listening)] = len(watched & established)
    return list(by_listener.values())


def workers(program, directory):
    """What a second worker is worth. Each worker gets the same rate from the same number of connections, also where the
    load shares its core: then CPU time tells them apart, requests/s would tell of the load."""
    h2load = needed("h2load", "it makes the load")
    body = forwarding(origins.start(directory).addresses())
    cases = {"1 worker": [(PROXY_CORE, 1)], "2 workers": [(BOTH_CORES, 2)], "2 processes": [(BOTH_CORES, 1)] * 2}
    rounds = []
    for number in range(WORKERS_ROUNDS):
        turn, cost = number % len(cases), {}
        for case, processes in [*cases.items()][turn:] + [*cases.items()][:turn]:
            wanted = RATE_PER_WORKER * WORKERS_SECONDS * sum(count for _, count in processes)
            running = [Balancer(program, directory, body, cores, count) for cores, count in processes]
            ports = [balancer.port for balancer, (_, count) in zip(running, processes) for _ in range(count)]
            _at_rate(h2load, directory, ports, 1)
            before = _spent(running)
            requests = _at_rate(h2load, directory, ports, WORKERS_SECONDS)
            if requests > 0.95 * wanted:
                cost[case] = (_spent(running) - before) / requests
            for balancer in running:
                balancer.process.stop()
        if len(cost) == len(cases):
            rounds.append(cost)
    if not rounds:
        raise Refused(f"{2 * RATE_PER_WORKER:,} requests/s are too many for this machine now: it is slow or not quiet")
    costs = ", ".join(f"{case} {median(cost[case] for cost in rounds):.1f}" for case in cases)
    one, two = (median(2 * cost[case] / cost["2 workers"] for cost in rounds) for case in ("1 worker", "2 processes"))
    print(f"workers: {costs} CPU µs/request at {RATE_PER_WORKER:,} requests/s and 32 connections each, {len(rounds)} rounds: "
          f"2 workers serve {one:.2f} times what 1 does per CPU second of each worker; beside 2 processes {two:.2f}", flush=True)


def _at_rate(h2load, directory, ports, seconds):
    """One load for each port, all at once; how many requests succeeded."""
    def one(index):
        own = os.path.join(directory, f"load{index}")
        os.makedirs(own, exist_ok=True)
        return load.h2load(h2load, own, f"http://127.0.0.1:{ports[index]}/1k", seconds, "--h1", "-c32", f"-D{seconds}",
                           f"--rps={RATE_PER_WORKER / 32}")

    with ThreadPoolExecutor(len(ports)) as pool:
        return sum(result.requests for result in pool.map(one, range(len(ports))))


def _spent(running):
    return sum(sum(balancer.process.cpu_by_thread().values()) for balancer in running)


BOTH_CORES = (PROXY_CORE, LOAD_CORE)
SPREAD_RUNS, SPREAD_RATE = 5, 8000
WORKERS_ROUNDS, WORKERS_SECONDS = 5, 2
RATE_PER_WORKER = 10_000
