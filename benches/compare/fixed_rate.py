"""A client that sends GETs at a fixed rate, whether or not earlier ones have been answered, and keeps what became of
each."""

import asyncio
import gc
import time
from dataclasses import dataclass


@dataclass
class Request:
    """When it was sent and done, by the monotonic clock, and its status; 0 for none."""

    sent: float
    done: float
    status: int


async def send(port, path, per_second, seconds):
    """All requests, in the order of their end."""
    gc.disable()  # its pauses would look like the proxy's
    finished, idle, tasks = [], [], set()
    start = time.monotonic()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0, start + number / per_second - time.monotonic()))
        task = asyncio.create_task(_one(port, path, idle, finished))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    for _, writer in idle:
        writer.close()
    return finished


async def _one(port, path, idle, finished):
    sent, status = time.monotonic(), 0
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            await reader.readexactly(length)
            status = int(head.split()[1])
            if "connection: close" in head:
                writer.close()
            else:
                idle.append((reader, writer))
    except (OSError, EOFError, ValueError, TimeoutError):
        pass  # a failure is a status of 0
    finished.append(Request(sent, time.monotonic(), status))


TIMEOUT_SECONDS = 10
