"""Finds programs and says which version they are."""

import os
import re
import shutil
import subprocess

from machine import Refused


def find(name, *directories):
    """The path of a program: in `directories`, then where the shell looks, then where system daemons are."""
    path = os.pathsep.join([*directories, os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return shutil.which(name, path=path)


def needed(name, purpose):
    """The path of a program that we cannot do without."""
    program = find(name)
    if not program:
        raise Refused(f"{name} is not installed: {purpose}")
    return program


def version(program, *arguments):
    """The first thing that looks like a version in what it says of itself."""
    said = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return found.group() if found else "unknown"
