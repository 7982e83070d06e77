#!/usr/bin/env python3
"""Wires between network namespaces, packet by packet. `wire.py COUNT`

Each wire has two ends, the network devices `nearN` and `farN`, wherever they are moved to: what is sent through one comes in by
the other. A line on the standard input says how one of them is from then on, in whole: `N {"delay": 0.1, "loss": 0.05, "hole":
"all"}`, in seconds each way, as a share, and what is lost besides: nothing (""), what opens connections ("syn"), or "all".

Unlike netem and nft this needs no more of the kernel than TUN devices.
"""

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
WELL = {"delay": 0.0, "loss": 0.0, "hole": ""}


def main(count):
    wires, ends = [], {}
    for number in range(count):
        near, far = device(f"near{number}"), device(f"far{number}")
        wires.append(dict(WELL))
        ends[near], ends[far] = (wires[number], far), (wires[number], near)
    poll = select.epoll()
    for end in (0, *ends):
        poll.register(end, select.EPOLLIN)
    late, order = [], 0
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else -1
        for end, _ in poll.poll(wait):
            if end == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                number, _, state = line.partition(" ")
                wires[int(number)].update(WELL, **json.loads(state))
                continue
            wire, other = ends[end]
            for packet in packets(end):
                if is_lost(packet, wire):
                    continue
                if wire["delay"]:
                    order += 1  # packets stay in order
                    heapq.heappush(late, (time.monotonic() + wire["delay"], order, other, packet))
                else:
                    send(other, packet)
        while late and late[0][0] <= time.monotonic():
            _, _, other, packet = heapq.heappop(late)
            send(other, packet)


def device(name):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def packets(end):
    for _ in range(64):
        try:
            yield os.read(end, 65536)
        except OSError:  # no more for now, or the device is down
            return


def is_lost(packet, wire):
    if wire["hole"] == "all" or random.random() < wire["loss"]:
        return True
    return wire["hole"] == "syn" and opens(packet)


def opens(packet):
    """Whether it is the first of a TCP connection (RFC 791, RFC 9293 §3.1)."""
    if packet[0] >> 4 != 4 or packet[9] != 6:
        return False
    flags = packet[(packet[0] & 15) * 4 + 13]
    return flags & 0x02 != 0 and flags & 0x10 == 0


def send(end, packet):
    try:
        os.write(end, packet)
    except OSError:
        pass  # the device is down, or its queue is full: a wire loses what it cannot carry


main(int(sys.argv[1]))
