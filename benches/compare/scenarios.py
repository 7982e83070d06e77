"""What is asked of every proxy, each scenario under one letter."""

import os
from dataclasses import dataclass
from typing import Callable

import holding
import load
from machine import PROXY_CORE, Refused, core_busy
from peers import resumes


@dataclass
class Bench:
    """What every scenario needs."""

    wrk: str
    h2load: str
    directory: str
    certificate: object
    seconds: int
    rate: int | None = None
    connections: int = 5000


@dataclass
class Scenario:
    """`send(bench, proxy, seconds)` loads a proxy and gives a `Load`; scenarios without it hold idle connections."""

    letter: str
    title: str
    send: Callable | None = None
    tls: bool = False
    access_log: bool = False

    def takes(self, seconds):
        """How long a run takes, roughly, in seconds."""
        return seconds + WARM_UP_SECONDS + 1 if self.send else 2 * holding.SETTLE_SECONDS + (10 if self.tls else 3)

    def measure(self, bench, proxy):
        """One run against a proxy that has just been started, as a dictionary of figures."""
        return self._idle(bench, proxy) if self.send is None else self._busy(bench, proxy)

    def _busy(self, bench, proxy):
        self.send(bench, proxy, WARM_UP_SECONDS)
        before, busy = proxy.process.cpu(), core_busy(PROXY_CORE)
        result = self.send(bench, proxy, bench.seconds)
        after, busy = proxy.process.cpu(), core_busy(PROXY_CORE) - busy
        if not result.requests:
            raise Refused("no request succeeded")
        user, system = (end - start for start, end in zip(before, after))
        figures = {
            "requests": result.requests,
            "seconds": result.seconds,
            "requests_per_second": result.rate(),
            "errors": result.errors,
            "cpu_us": (user + system) / result.requests,
            "user_us": user / result.requests,
            "system_us": system / result.requests,
            "p50_ms": result.p50,
            "p99_ms": result.p99,
            "peak_kib": proxy.process.peak(),
            # what others took of the proxy's core: tells a quiet machine from a busy one
            "others_share": max(0.0, (busy - user - system) / (result.seconds * 1e6)),
        }
        if self.letter == "r":
            figures["resumes"] = resumes(proxy, bench.certificate)
        return figures

    def _idle(self, bench, proxy):
        self._hold(bench, proxy, holding.WARM_UP)
        before = proxy.process.memory()
        memory, lost = self._hold(bench, proxy, bench.connections)
        return {
            "connections": bench.connections,
            "errors": lost,
            "kib_per_connection": (memory - before) / bench.connections,
            "base_kib": before,
            "peak_kib": proxy.process.peak(),
        }

    def _hold(self, bench, proxy, count):
        """Opens connections, lets each make one request and rest; the proxy's memory then, and how many were lost."""
        port, certificate = (proxy.https, bench.certificate) if self.tls else (proxy.http, None)
        with holding.Held(bench.directory, port, count, certificate) as held:
            held.settle()
            return proxy.process.memory(), held.close()


def _wrk(path, connections, tls=False, headers=(), upload=None):
    return lambda bench, proxy, seconds: load.wrk(
        bench.wrk, bench.directory, proxy.url(path, tls), connections, seconds, headers, upload)


def _h2load(path, *options, tls=True):
    return lambda bench, proxy, seconds: load.h2load(
        bench.h2load, bench.directory, proxy.url(path, tls), seconds, f"-D{seconds}", *options)


def _calls(bench, proxy, seconds):
    """Unary ones as gRPC makes them: a message of 64 bytes and its prefix each way."""
    call = os.path.join(bench.directory, "call")
    with open(call, "wb") as file:
        file.write(b"\0\0\0\0\x40" + b"x" * 64)
    return load.h2load(bench.h2load, bench.directory, proxy.url("/call", tls=True), seconds, "-c16", "-m16", f"-D{seconds}",
                       f"-d{call}", "-Hcontent-type: application/grpc", "-Hte: trailers")


def _at_fixed_rate(bench, proxy, seconds):
    """Each of h2load's clients sends its share."""
    return load.h2load(bench.h2load, bench.directory, proxy.url("/1k"), seconds, "--h1", "-c64", f"-D{seconds}",
                       f"--rps={bench.rate / 64:.3f}")


def _talk(bench, proxy, seconds):
    return load.talk(bench.directory, proxy.http, 64, MESSAGES_PER_SECOND, seconds)


def _full_handshakes(bench, proxy, seconds):
    """A fixed number of new clients in each hundredth of a second: what closes and connects again resumes its session,
    in wrk as in h2load."""
    count = HANDSHAKES_PER_SECOND * seconds
    return load.h2load(bench.h2load, bench.directory, proxy.url("/1k", tls=True), seconds, "--h1", f"-c{count}",
                       f"-n{count}", f"-r{HANDSHAKES_PER_SECOND // 100}", "--rate-period=10ms")


ALL = [
    Scenario("a", "HTTP/1.1 keep-alive, 1 KiB, 64 connections", _wrk("/1k", 64)),
    Scenario("b", "HTTP/1.1 keep-alive over TLS 1.3, 1 KiB, 64 connections", _wrk("/1k", 64, tls=True)),
    Scenario("c", "HTTP/2 over TLS, 16 connections × 16 streams", _h2load("/1k", "-c16", "-m16")),
    Scenario("g", "unary calls as of gRPC, HTTP/2 on both sides, 16 connections × 16 streams", _calls),
    Scenario("d", "full TLS handshake per request, ECDSA P-256, 1,000/s", _full_handshakes),
    Scenario("r", "resumed TLS handshake per request", _wrk("/1k", 32, tls=True, headers=("Connection: close",))),
    Scenario("e", "1 MiB replies, 16 connections", _wrk("/1m", 16)),
    Scenario("k", "100 KiB replies, 32 connections", _wrk("/100k", 32)),
    Scenario("f", "10 KiB uploads, 64 connections", _wrk("/sink", 64, upload=10 * 1024)),
    Scenario("l", "HTTP/1.1 keep-alive, 1 KiB, 64 connections, access log on", _wrk("/1k", 64), access_log=True),
    Scenario("w", "WebSocket echo, 64 tunnels, 10,000 messages/s of 125 bytes each way", _talk),
    Scenario("p", "HTTP/1.1 keep-alive, 1 KiB, 64 connections, fixed rate", _at_fixed_rate),
    Scenario("i", "idle connections", None),
    Scenario("t", "idle connections over TLS", None, tls=True),
]

WARM_UP_SECONDS = 1
MESSAGES_PER_SECOND = 10_000
HANDSHAKES_PER_SECOND = 1000  # every peer can; what one costs does not depend on how many wait
