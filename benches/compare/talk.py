"""Talks to a WebSocket echo through a proxy: `talk.py PORT TUNNELS MESSAGES_PER_SECOND SECONDS`. Messages of 125 bytes, spread
evenly over time and tunnels; prints how many came back, how many tunnels were lost, and latencies in milliseconds."""

import select
import socket
import sys
import time

PORT, TUNNELS, RATE, SECONDS = map(int, sys.argv[1:5])
MESSAGE = bytes([0x81, 0x80 | 125]) + b"mask" + b"x" * 125  # RFC 6455 §5.2: text, masked, as all that clients send
REQUEST = (b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def opened():
    connection = socket.create_connection(("127.0.0.1", PORT), 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(REQUEST)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    if not head.startswith(b"HTTP/1.1 101 "):
        sys.exit(f"no tunnel: {head[:80]!r}")
    connection.setblocking(False)
    return connection


def main():
    connections = {connection.fileno(): connection for connection in (opened() for _ in range(TUNNELS))}
    poll = select.epoll()
    for number in connections:
        poll.register(number, select.EPOLLIN)
    order = list(connections)
    sent_at = {number: [] for number in order}  # of messages on their way
    rest = dict.fromkeys(order, 0)  # bytes of a message that has come in part
    latencies, sent, lost = [], 0, 0
    begun = time.perf_counter()
    while True:
        now = time.perf_counter() - begun
        if now > SECONDS + 1 or now > SECONDS and len(latencies) == sent:
            break
        due = int(min(now, SECONDS) * RATE)
        while sent < due and order:
            number = order[sent % len(order)]
            try:
                connections[number].send(MESSAGE)
                sent_at[number].append(time.perf_counter())
            except OSError:
                lost += 1
                order.remove(number)
                continue
            sent += 1
        for number, _ in poll.poll(0.001):
            try:
                heard = connections[number].recv(65536)
            except OSError:
                heard = b""
            if not heard:
                lost += 1
                poll.unregister(number)
                if number in order:
                    order.remove(number)
                continue
            now = time.perf_counter()
            complete, rest[number] = divmod(rest[number] + len(heard), len(MESSAGE))
            times = sent_at[number]
            latencies += [now - at for at in times[:complete]]
            del times[:complete]
    latencies.sort()
    percentile = [latencies[min(len(latencies) - 1, len(latencies) * percent // 100)] * 1000 if latencies else 0
                  for percent in (50, 99)]
    print("talked", len(latencies), time.perf_counter() - begun, lost + sent - len(latencies), *percentile)


if __name__ == "__main__":
    main()
