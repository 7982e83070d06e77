"""Processes with their CPU time and memory, cores and ports. Knows nothing of proxies."""

import contextlib
import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import time


def _cores():
    """One core for the proxy, one for the load; not two threads of one core, where there is a choice."""
    cores = sorted(os.sched_getaffinity(0))
    siblings = f"/sys/devices/system/cpu/cpu{cores[0]}/topology/thread_siblings_list"
    with contextlib.suppress(OSError), open(siblings, encoding="ascii") as file:
        same = {int(core) for part in file.read().split(",") for core in part.split("-")}
        cores[1:] = sorted(cores[1:], key=lambda core: core in same)
    return cores[0], cores[1] if len(cores) > 1 else None


PROXY_CORE, LOAD_CORE = _cores()
TICK_MICROSECONDS = 1_000_000 / os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(Exception):
    """Something is missing or in the way; the message says what."""


class Process:
    """A process of ours on one core or several, with all it starts. Never outlives us."""

    def __init__(self, name, arguments, cores, directory, output=subprocess.DEVNULL, environment=None):
        self.name = name
        self.errors = os.path.join(directory, f"{name}.stderr")
        # What ends us waits until the process is known to be ours.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            with open(self.errors, "wb") as errors:
                self.child = subprocess.Popen(
                    arguments,
                    cwd=directory,
                    env={**os.environ, **(environment or {})},
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=errors,
                    process_group=0,  # Ctrl-C is for us; we end what we started
                    preexec_fn=lambda: _prepare(cores, blocked),
                )
            _running.append(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    @property
    def pid(self):
        return self.child.pid

    def has_ended(self):
        return self.child.poll() is not None

    def complaint(self):
        """The end of what it wrote to its standard error."""
        with open(self.errors, encoding="utf-8", errors="replace") as errors:
            return errors.read()[-2000:].strip()

    def family(self):
        """Its process id and those of all its descendants."""
        children = {}
        for pid in _pids():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(pid)[1]), []).append(pid)
        family, unseen = [], [self.pid]
        while unseen:
            pid = unseen.pop()
            family.append(pid)
            unseen.extend(children.get(pid, []))
        return family

    def cpu(self):
        """User and system time so far of the whole family, in microseconds."""
        user = system = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                stat = _stat(pid)
                # utime, stime; cutime, cstime: of children that have ended
                user += int(stat[11]) + int(stat[13])
                system += int(stat[12]) + int(stat[14])
        return user * TICK_MICROSECONDS, system * TICK_MICROSECONDS

    def cpu_by_thread(self):
        """Time on a core so far of each thread by its name, in microseconds; exact, unlike `cpu`. Without descendants."""
        spent = {}
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                name = _read(f"/proc/{self.pid}/task/{thread}/comm").strip()
                nanoseconds = int(_read(f"/proc/{self.pid}/task/{thread}/schedstat").split()[0])
                spent[name] = spent.get(name, 0) + nanoseconds / 1000
        return spent

    def listens(self, port):
        """Whether one of the family has a socket that listens on `port`."""
        sockets = sockets_of(port, LISTENING, self.pid)
        return bool(sockets) and any(sockets.intersection(descriptors(pid).values()) for pid in self.family())

    def memory(self):
        """Resident memory of the whole family now, in KiB."""
        return self._status("VmRSS:")

    def anonymous(self):
        """The part of it that is not pages of files, which the kernel drops and reads again as it likes, in KiB."""
        return self._status("RssAnon:")

    def peak(self):
        """Sum of the most that each of the family ever had resident, in KiB."""
        return self._status("VmHWM:")

    def stop(self):
        if self in _running:
            _running.remove(self)
        family = [(pid, _birth(pid)) for pid in self.family()]
        if not self.has_ended():
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        deadline = time.monotonic() + 2
        for pid, birth in family[1:]:
            while _birth(pid) == birth is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            if birth is not None and _birth(pid) == birth:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _status(self, field):
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith(field))
        return total

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def prepare():
    """Checks that this machine will do, and makes every way out of this program end what it started."""
    if LOAD_CORE is None:
        raise Refused("needs two cores, one for the proxy and one for the load; has one")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {LOAD_CORE})

    def leave(number, _):
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C does not cut short what cleans up after the first
        raise SystemExit(128 + number)

    for number in ENDING:
        signal.signal(number, leave)


def stop_all():
    """Ends every process of ours that still runs, the newest first."""
    for process in reversed(_running.copy()):
        process.stop()


def open_files():
    """How many files a process of ours may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def sockets_of(port, state, pid="self"):
    """Inodes of the TCP sockets bound to `port` that are in this state, as `/proc` numbers them; where process `pid` is, which
    may be in another network namespace."""
    found = set()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/tcp", encoding="ascii") as lines:
        for fields in map(str.split, lines):
            if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def descriptors(pid):
    """What each of a process's file descriptors is; nothing if it has ended."""
    named = {}
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                named[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return named


def core_busy(core):
    """Microseconds that a core has spent on anything so far."""
    with open("/proc/stat", encoding="ascii") as stat:
        for line in stat:
            if line.startswith(f"cpu{core} "):
                user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line.split()[1:9])
                return (user + nice + system + irq + softirq + steal) * TICK_MICROSECONDS
    return 0


def port_range():
    """The lowest and the highest port that a client gets."""
    lowest, highest = map(int, _read("/proc/sys/net/ipv4/ip_local_port_range").split())
    return lowest, highest


def free_port():
    """A port nobody listens on, outside the range from which clients get theirs."""
    lowest, _ = port_range()
    for port in random.sample(range(lowest // 2, lowest), 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port not in _given:
                    _given.add(port)
                    return port
    raise Refused(f"200 ports below {lowest} tried, all taken")


def wait_for_port(process, port, seconds=10):
    """Waits until `process` itself listens on `port`: somebody else may have taken it in between."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.has_ended():
            raise Refused(f"{process.name} ended instead of listening on port {port}: {process.complaint()}")
        if process.listens(port):
            return
        time.sleep(0.02)
    raise Refused(f"{process.name} does not listen on port {port} after {seconds} s: {process.complaint()}")


def _prepare(cores, blocked):
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.sched_setaffinity(0, {cores} if isinstance(cores, int) else cores)
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: also if we are killed


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _stat(pid):
    """The fields of /proc/PID/stat from the state on: the name before it may hold blanks."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _birth(pid):
    try:
        stat = _stat(pid)
        return None if stat[0] == "Z" else stat[19]
    except OSError:
        return None


ESTABLISHED, LISTENING = "01", "0A"  # as /proc/net/tcp says it
_running = []
_given = set()
_libc = ctypes.CDLL(None, use_errno=True)
