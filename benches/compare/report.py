"""Makes figures of runs: medians, ratios per round, Markdown."""

import re
from statistics import median

REFERENCES = ("nginx", "haproxy")
OWN = ("balancer", "profiled")


def summarise(runs):
    """Per scenario and peer the median of each figure, and medians of the ratios to each reference in the same round."""
    figures = {(run["scenario"], run["peer"], run["round"]): run["figures"] for run in runs}
    summary = {}
    for scenario, peer in dict.fromkeys((run["scenario"], run["peer"]) for run in runs):
        own = {key: value for key, value in figures.items() if key[:2] == (scenario, peer)}
        first = next(iter(own.values()))
        row = {name: median(values[name] for values in own.values()) for name in first if name != "resumes"}
        row["errors"] = sum(values["errors"] for values in own.values())
        row["rounds"] = len(own)
        if "resumes" in first:
            row["resumes"] = all(values["resumes"] for values in own.values())

        def ratio(name, to_scenario, to_peer):
            ratios = [values[name] / by[name] for (_, _, number), values in own.items()
                      if (by := figures.get((to_scenario, to_peer, number))) and values.get(name) and by.get(name, 0) > 0]
            return median(ratios) if ratios else None

        for name in ("cpu_us", "user_us", "p99_ms", "kib_per_connection"):
            for reference in REFERENCES:
                row[f"{name}_by_{reference}"] = ratio(name, scenario, reference)
        if scenario == "l":
            row["cpu_us_by_off"] = ratio("cpu_us", "a", peer)
        summary.setdefault(scenario, {})[peer] = {name: value for name, value in row.items() if value is not None}
    return summary


def markdown(result):
    """All of a result as text."""
    peers, summary, titles = result["peers"], result["summary"], result["titles"]
    lines = ["# Comparison", "",
             f"{result['rounds']} rounds of {result['seconds']} s, one proxy worker on its own core, "
             f"{result['machine']['cores']} cores, Linux {result['machine']['linux']}. "
             "Medians over the rounds; ratios are medians of the ratios within each round.", "",
             ", ".join(f"{name} {version}" for name, version in peers.items()) + ".", ""]
    busy = [letter for letter in summary if any("cpu_us" in row for row in summary[letter].values())]
    if busy:
        lines += ["## CPU per request, µs", "", _row(["", *busy]), _rule(len(busy))]
        lines += [_row([peer, *(_number(summary[letter].get(peer, {}).get("cpu_us")) for letter in busy)])
                  for peer in peers]
        for own in (name for name in OWN if name in peers):
            for reference in (name for name in REFERENCES if name in peers):
                lines.append(_row([f"{own} ÷ {reference}", *(
                    _number(summary[letter].get(own, {}).get(f"cpu_us_by_{reference}"), 2) for letter in busy)]))
        lines.append("")
    if "p" in summary:
        columns = [column for column in FIXED_RATE_COLUMNS if any(column[1] in row for row in summary["p"].values())]
        lines += [f"## p99 at {_rate(result)}", "", _row(["", *(title for title, *_ in columns)]), _rule(len(columns))]
        lines += [_cells(peer, figures, columns) for peer, figures in summary["p"].items()]
        lines.append("")
    for letter, rows in summary.items():
        lines += [f"## {letter}: {titles[letter]}", ""]
        columns = IDLE_COLUMNS if "kib_per_connection" in next(iter(rows.values())) else BUSY_COLUMNS
        columns = [column for column in columns if any(column[1] in figures for figures in rows.values())]
        lines += [_row(["", *(title for title, *_ in columns)]), _rule(len(columns))]
        for peer, figures in rows.items():
            lines.append(_cells(peer, figures, columns))
            if figures.get("resumes") is False:
                lines[-1] += " does not resume sessions"
        shares = [figures["others_share"] for figures in rows.values() if "others_share" in figures]
        lines += ["", f"Others took at most {max(shares):.1%} of the proxy's core (median run)." if shares else "", ""]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _rate(result):
    """What scenario p's rate is of what can be had."""
    rate = f"{result['rate']:,} requests/s"
    return f"half of the maximum load of the slowest ({rate})" if result["rate_is_half"] else rate


def _cells(peer, figures, columns):
    return _row([peer, *(_number(None if figures.get(name) is None else figures[name] / scale, digits)
                         for _, name, scale, digits in columns)])


def _number(value, digits=1):
    if value is None:
        return ""
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def _rule(count):
    return "|---|" + "--:|" * count


# title, figure, what it is divided by, digits
BUSY_COLUMNS = [
    ("CPU µs", "cpu_us", 1, 1), ("user", "user_us", 1, 1), ("system", "system_us", 1, 1),
    ("requests/s", "requests_per_second", 1, 0), ("p50 ms", "p50_ms", 1, 2), ("p99 ms", "p99_ms", 1, 2),
    ("peak MiB", "peak_kib", 1024, 1), ("errors", "errors", 1, 0),
    ("CPU ÷ nginx", "cpu_us_by_nginx", 1, 2), ("CPU ÷ HAProxy", "cpu_us_by_haproxy", 1, 2),
    ("CPU ÷ log off", "cpu_us_by_off", 1, 2), ("user ÷ nginx", "user_us_by_nginx", 1, 2),
    ("p99 ÷ nginx", "p99_ms_by_nginx", 1, 2), ("p99 ÷ HAProxy", "p99_ms_by_haproxy", 1, 2),
]
FIXED_RATE_COLUMNS = [
    ("reached requests/s", "requests_per_second", 1, 0), ("p50 ms", "p50_ms", 1, 2), ("p99 ms", "p99_ms", 1, 2),
    ("p99 ÷ nginx", "p99_ms_by_nginx", 1, 2), ("p99 ÷ HAProxy", "p99_ms_by_haproxy", 1, 2),
]
IDLE_COLUMNS = [
    ("KiB per connection", "kib_per_connection", 1, 1), ("before MiB", "base_kib", 1024, 1),
    ("peak MiB", "peak_kib", 1024, 1), ("lost", "errors", 1, 0),
    ("÷ nginx", "kib_per_connection_by_nginx", 1, 2), ("÷ HAProxy", "kib_per_connection_by_haproxy", 1, 2),
]
