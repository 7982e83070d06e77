"""Requests at a fixed rate over many connections, whether or not earlier ones have been answered; what became of each."""

import asyncio
import gc
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass


@dataclass
class Request:
    """When it was to be sent and when it was done, by the monotonic clock; `status` 0: no whole response. `by` says which app
    server had begun to answer, `length` how long a whole body was."""

    method: str
    path: str
    sent: float
    done: float
    status: int
    said: str
    by: str
    length: int

    @property
    def seconds(self):
        return self.done - self.sent


class Client:
    """Connections to one port that are used again."""

    def __init__(self, port, timeout=10):
        self.port, self.timeout = port, timeout
        self.idle, self.finished = [], []
        self.numbers = itertools.count()
        self.tasks = set()

    async def run(self, per_second, seconds, method=lambda: "GET"):
        """So many requests per second, for so long."""
        gc.disable()  # its pauses would look like the balancer's
        start = time.monotonic()
        for number in range(int(per_second * seconds)):
            due = start + number / per_second
            await asyncio.sleep(max(0, due - time.monotonic()))
            self.begin(method(), due)
        await self.rest()
        return self.finished

    def begin(self, method, due=None):
        task = asyncio.create_task(self.one(method, due or time.monotonic()))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def rest(self):
        """Waits for what is still on its way."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def one(self, method, due):
        path = f"/{next(self.numbers)}"
        status, said, by, length, writer = 0, "", "", 0, None
        try:
            async with asyncio.timeout(self.timeout):
                if self.idle:
                    reader, writer = self.idle.pop()
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                body = "" if method in ("GET", "HEAD", "DELETE") else "content-length: 5\r\n\r\nhello"
                writer.write(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{body or chr(13) + chr(10)}".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                said = head.partition("proxy-status:")[2].split("\r\n")[0].strip()
                by = head.partition("x-app:")[2].split("\r\n")[0].strip()
                if "transfer-encoding: chunked" in head:
                    length = await chunks(reader)
                elif method != "HEAD":
                    length = int(head.partition("content-length:")[2].split("\r\n")[0])
                    await reader.readexactly(length)
                status = int(head.split()[1])
                if "connection: close" in head:
                    writer.close()
                else:
                    self.idle.append((reader, writer))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            said = said or repr(error)
            if writer:
                writer.close()
        self.finished.append(Request(method, path, due, time.monotonic(), status, said, by, length))

    async def leave(self):
        """Begins a request and goes away before it is answered."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(f"GET /left/{next(self.numbers)} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            await asyncio.sleep(random.random() / 50)
            writer.close()
        except OSError:
            pass

    def close(self):
        for _, writer in self.idle:
            writer.close()
        self.idle.clear()


async def chunks(reader):
    """Reads a body that comes in chunks (RFC 9112 §7.1), up to its end: its length."""
    total, length = 0, -1
    while length:
        length = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(length + 2)
        total += length
    return total


def percentile(requests, share):
    """Of their durations, in milliseconds."""
    ordered = sorted(request.seconds for request in requests)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


def failures(requests):
    """What went wrong, by status and what the balancer said of it."""
    return Counter((request.status, request.said) for request in requests if request.status != 200)
