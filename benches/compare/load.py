"""Sends requests with wrk and h2load, and reads what they measured."""

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from machine import LOAD_CORE, Process, Refused


@dataclass
class Load:
    """What a run of requests came to. Latencies in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50: float | None = None
    p99: float | None = None
    resets: int = 0

    def rate(self):
        return self.requests / self.seconds


def wrk(program, directory, url, connections, seconds, headers=(), upload=None):
    """As many requests as there is time for over `connections` connections; `upload`: bytes to POST with each."""
    script = os.path.join(directory, "wrk.lua")
    with open(script, "w", encoding="ascii") as file:
        if upload:
            file.write(f'wrk.method = "POST"\nwrk.body = string.rep("x", {upload})\n')
        file.write(WRK_REPORT)
    arguments = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", script]
    for header in headers:
        arguments += ["-H", header]
    said = _finish("wrk", [*arguments, url], directory, seconds)
    found = re.search(r"^measured\s+(.*)$", said, re.MULTILINE)
    if not found:
        raise Refused(f"wrk did not measure anything: {said}")
    requests, microseconds, connect, read, write, timeout, status, p50, p99 = map(float, found.group(1).split())
    return Load(int(requests), microseconds / 1e6, int(connect + read + write + timeout + status),
                p50 / 1000, p99 / 1000, int(connect + read + write))


def h2load(program, directory, url, seconds, *options):
    """What h2load does with these options, which take about so many seconds."""
    log = os.path.join(directory, "h2load.log")
    with contextlib.suppress(FileNotFoundError):
        os.remove(log)
    said = _finish("h2load", [program, "-t1", f"--log-file={log}", *options, url], directory, seconds)
    found = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed", said, re.MULTILINE)
    if not found:
        raise Refused(f"h2load did not measure anything: {said}")
    with open(log, encoding="ascii") as lines:
        latencies = sorted(int(latency) for _, status, latency in map(str.split, lines) if status == "200")
    os.remove(log)
    return Load(int(found.group(1)), float(seconds), int(found.group(2)),
                percentile(latencies, 50) / 1000, percentile(latencies, 99) / 1000)


def talk(directory, port, tunnels, rate, seconds):
    """WebSocket messages to an echo and back, so many each second over so many tunnels."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "talk.py")
    arguments = [sys.executable, program, str(port), str(tunnels), str(rate), str(seconds)]
    said = _finish("talk", arguments, directory, seconds)
    found = re.search(r"^talked (.*)$", said, re.MULTILINE)
    if not found:
        raise Refused(f"nobody talked: {said}")
    messages, took, errors, p50, p99 = map(float, found.group(1).split())
    return Load(int(messages), took, int(errors), p50, p99)


def percentile(ordered, percent):
    """Of values in order; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0


def _finish(name, arguments, directory, seconds):
    """Runs to the end, on the load's core, and gives what was said."""
    with Process(name, arguments, LOAD_CORE, directory, output=subprocess.PIPE) as process:
        try:
            said, _ = process.child.communicate(timeout=2 * seconds + 20)
        except subprocess.TimeoutExpired:
            raise Refused(f"{name} does not end after {seconds} s") from None
        return said.decode(errors="replace") + process.complaint()


WRK_REPORT = """
function done(summary, latency, requests)
   local e = summary.errors
   print("measured", summary.requests, summary.duration, e.connect, e.read, e.write, e.timeout, e.status,
         latency:percentile(50), latency:percentile(99))
end
"""
