"""Figures that were accepted: reads, writes and compares them."""

import json
import math

from machine import Refused

FIGURES = ("instructions", "allocations", "reallocations")


def load(path, scenarios):
    """What a file says of these scenarios; all of them must be there."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{path}: is not JSON: {error}") from error
    for table in ("made_with", "scenarios"):
        if not isinstance(content, dict) or not isinstance(content.get(table), dict):
            raise Refused(f"{path}: is not a baseline: it has no table {table!r}; write one with --record")
    for name in scenarios:
        known = content["scenarios"].get(name)
        if not isinstance(known, dict):
            raise Refused(f"{path}: has no scenario {name!r}; record the baseline anew with --record")
        for figure in FIGURES:
            if not _is_figure(known.get(figure)):
                raise Refused(f"{path}: scenario {name!r}: {figure!r} is not a number from 0; record the baseline anew "
                              "with --record")
    return content


def save(path, figures, made_with):
    """One figure a line, in an order that does not change."""
    content = {"made_with": made_with, "scenarios": figures}
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, sort_keys=True, ensure_ascii=False)
            file.write("\n")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def difference(figure, now, before):
    """How far a figure has moved, as a share of what it was: 0 where it is no more than rounding."""
    if abs(now - before) <= SLACK[figure]:
        return 0.0
    return (now - before) / before if before else math.inf


def _is_figure(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


SLACK = {"instructions": 0, "allocations": 0.25, "reallocations": 0.25}  # of one per request: buffers that grow now and then
