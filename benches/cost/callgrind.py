"""The balancer in valgrind's callgrind: counts what it executes between two points in time, by function. Knows nothing of
HTTP."""

import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field

import peers
from machine import LOAD_CORE, Process, Refused
from tools import find, version


class Valgrind(peers.Balancer):
    """The balancer, configured as in the comparison, in valgrind. `callers`: how many are kept apart for each function."""

    def __init__(self, program, callers):
        self.valgrind, self.control = (_installed(name) for name in ("valgrind", "callgrind_control"))
        self.valgrind_version = version(self.valgrind, "--version")
        self.callers = callers
        try:
            super().__init__(program)
        except OSError as error:
            raise Refused(f"{program} does not run: {error.strerror}") from error

    def configure(self, directory, setting, ports):
        arguments, environment = super().configure(directory, setting, ports)
        return [self.valgrind, "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no",
                f"--callgrind-out-file={os.path.join(directory, 'profile')}", f"--separate-callers={self.callers}",
                # its pipes go with the directory, however it ends
                f"--vgdb-prefix={os.path.join(directory, 'vgdb')}", *arguments], environment

    def count(self, proxy, work):
        """Has `work` done and says what the balancer executed meanwhile, all its threads together."""
        directory = os.path.dirname(proxy.process.errors)
        self._tell(proxy.process, directory, "--instr=on")
        work()
        self._tell(proxy.process, directory, "--instr=off")
        self._tell(proxy.process, directory, "--dump")
        try:
            with open(os.path.join(directory, "profile.1"), encoding="utf-8", errors="replace") as file:
                return read(file)
        except OSError as error:
            raise Refused(f"callgrind wrote no profile: {error.strerror}; {proxy.process.complaint()}") from error

    def _tell(self, process, directory, order):
        """Returns once it has been carried out."""
        arguments = [self.control, f"--vgdb-prefix={os.path.join(directory, 'vgdb')}", order, str(process.pid)]
        with Process("callgrind_control", arguments, LOAD_CORE, directory, output=subprocess.PIPE) as control:
            try:
                said, _ = control.child.communicate(timeout=ORDER_SECONDS)
            except subprocess.TimeoutExpired:
                raise Refused(f"callgrind_control {order} does not end after {ORDER_SECONDS} s") from None
            said = f"{said.decode(errors='replace')}\n{control.complaint()}".strip()
        # it ends with 0 also where it has not reached the process
        if control.child.returncode or "OK." not in said:
            raise Refused(f"callgrind_control {order} failed: {said or 'it does not say why'}")


@dataclass
class Profile:
    """Instructions that each function executed itself, and how often which function called which. A caller is the path to
    it, nearest first, as long as callers are kept apart."""

    own: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)  # by (path of the caller, callee)

    def instructions(self):
        return self.own.total()

    def allocations(self):
        """How often memory was asked for, by (path of the caller, whether it was to resize). What an allocator calls itself
        is not counted."""
        asked = Counter()
        for (caller, callee), count in self.calls.items():
            if ALLOCATION.fullmatch(callee) and not ALLOCATOR.match(caller[0]):
                asked[caller, "realloc" in callee] += count
        return asked

    def variants(self):
        """The functions, of those made for a kind of CPU, that did more than a thousandth of the work."""
        return {name for name, cost in self.own.items() if VARIANT.search(name) and cost * 1000 > self.instructions()}


def read(lines):
    """A profile from callgrind's file: https://valgrind.org/docs/manual/cl-format.html."""
    profile, names = Profile(), {}
    caller = callee = None
    is_call = False
    total = 0
    for line in lines:
        if line[:1] in POSITION:
            # below `calls=` stands what the callee counts as its own
            if not is_call:
                profile.own[caller[0]] += int((line.split() + ["0"])[1])
            is_call = False
        elif line.startswith("fn="):
            caller = _path(line, names)
        elif line.startswith("cfn="):
            callee = _path(line, names)
        elif line.startswith("calls="):
            profile.calls[caller, callee[0]] += int(line[len("calls="):].split()[0])
            is_call = True
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    if not total or total != profile.instructions():
        raise Refused(f"callgrind's profile does not add up: functions executed {profile.instructions()} instructions, "
                      f"all together {total}")
    return profile


def _path(line, names):
    """`fn=(7) function'caller` says what 7 stands for from then on, `fn=(7)` means the same."""
    number, _, name = line.rstrip("\n").partition("=")[2].partition(" ")
    if number not in names:
        names[number] = tuple(name.split("'"))
    return names[number]


def _installed(name):
    program = find(name)
    if not program:
        raise Refused(f"{name} is not installed (Debian: valgrind): it counts instructions")
    return program


POSITION = tuple("0123456789+-*")
ORDER_SECONDS = 30  # a fraction of one on an idle machine

# mimalloc serves the Rust code, the C library's allocator the C code in it.
ALLOCATION = re.compile(r"mi_(heap_|theap_)?(m|z|c|re|rec|rez)alloc(n|f|_\w+)?"
                        r"|[mc]alloc|realloc(array)?|memalign|posix_memalign|aligned_alloc")
ALLOCATOR = re.compile(r"_?mi_|(__libc_|_int_)?([mc]alloc|realloc|memalign)")
VARIANT = re.compile(r"avx|sse\d|aesni|clmul|erms|bmi|neon|_hw_|_nohw")
