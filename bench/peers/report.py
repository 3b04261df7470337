"""What a run found: aligned text, Markdown, CSV, JSON and a plot."""
import csv
import io
import json
import math
import statistics

import shapes

OPS = {"eval": "evaluation", "train": "training"}
LEVEL = 0.97  # evaluation is a copy: two of them at the ceiling are level
LARGE = 1 << 20  # bytes from which clnorm on OpenCL is compared with PyTorch


class Row:
    """A result in the words of the report."""

    def __init__(self, result, entries):
        self.result = result
        self.op, self.dims, self.suites = result.case
        self.shape = "x".join(map(str, self.dims))
        self.bytes = shapes.size(self.dims)
        self.seconds, self.ratios = result.seconds, result.ratios
        self.own = entries[0].key
        self.loop_seconds = result.loop_seconds
        self.gbps = 2 * self.bytes / self.loop_seconds[self.own] / 1e9
        self.peer = fastest(result, entries, "peer")
        self.ratio = self.ratios.get(self.peer, math.nan)
        self.blocked = fastest(result, entries, "blocked")
        self.blocked_ratio = self.ratios.get(self.blocked, math.nan)
        self.opencl_ratio = self.ratios.get("torch_to_opencl", math.nan)
        self.loop_ratio = result.loop_ratios.get(self.peer, math.nan)
        self.queued_ratio = result.loop_ratios.get("torch_to_opencl_queued", math.nan)

    @property
    def lost(self):
        return self.ratio < LEVEL


def fastest(result, entries, role):
    """The key of the fastest contestant in a role; None where there is none."""
    keys = [entry.key for entry in entries if entry.role == role and entry.key in result.ratios]
    return min(keys, key=result.ratios.get, default=None)


def rows(results, entries):
    """Lost cases first, the worst at the top; the others in the order of operation and size."""
    made = [Row(result, entries) for result in results]
    return sorted(made, key=lambda row: (not row.lost, row.ratio if row.lost else 0, row.op,
                                         row.bytes, row.dims))


def geometric_mean(values):
    values = [value for value in values if not math.isnan(value)]
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def summary(table, op):
    """The figures of one operation."""
    chosen = [row for row in table if row.op == op]
    large = [row for row in chosen
             if row.bytes > LARGE and not math.isnan(row.opencl_ratio)]
    return {
        "op": op,
        "cases": len(chosen),
        "lost": sum(row.lost for row in chosen),
        "geomean_fastest_peer": geometric_mean([row.ratio for row in chosen]),
        "loop_lost": sum(row.loop_ratio < LEVEL for row in chosen),
        "geomean_loop": geometric_mean([row.loop_ratio for row in chosen]),
        "lost_to_blocked": sum(row.blocked_ratio < LEVEL for row in chosen),
        "geomean_blocked": geometric_mean([row.blocked_ratio for row in chosen]),
        "opencl_cases": len(large),
        "opencl_lost": sum(row.opencl_ratio < LEVEL for row in large),
        "geomean_opencl": geometric_mean([row.opencl_ratio for row in large]),
        "queued_lost": sum(row.queued_ratio < LEVEL for row in large),
        "geomean_queued": geometric_mean([row.queued_ratio for row in large]),
    }


def summaries(table):
    return [summary(table, op) for op in OPS if any(row.op == op for row in table)]


def sentences(table):
    """The summaries in words, without those that nothing was measured for."""
    for figures in summaries(table):
        parts = [
            ("geomean_fastest_peer", "{lost} of {cases} cases lost, geometric mean "
             "{geomean_fastest_peer:.2f}x the fastest peer on the same layout"),
            ("geomean_loop", "in the loop {loop_lost} lost, {geomean_loop:.2f}x that peer"),
            ("geomean_blocked", "{lost_to_blocked} behind oneDNN's blocked layout, geometric mean "
             "{geomean_blocked:.2f}x"),
            ("geomean_opencl", "OpenCL behind PyTorch on {opencl_lost} of {opencl_cases} tensors "
             "over 1 MiB, geometric mean {geomean_opencl:.2f}x"),
            ("geomean_queued", "in the loop, with calls queued, {queued_lost} of them, "
             "{geomean_queued:.2f}x"),
        ]
        texts = [text for key, text in parts if not math.isnan(figures[key])]
        yield f"{OPS[figures['op']].capitalize()}: " + "; ".join(texts).format(**figures)


def largest_differences(table, entries):
    """How far the outputs of the others are from clnorm's, in words."""
    parts = []
    for entry in entries[1:]:
        found = [row.result.differences.get(entry.key, 0) for row in table]
        parts.append(f"{entry.title} {max(found):.1e}")
    return ", ".join(parts)


def number(value, digits=2):
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def header(entries):
    """Titles of the columns; those of `cells`."""
    compared = [entry for entry in entries[1:] if entry.role in ("peer", "blocked")]
    return (["op", "N x C x H x W", "MiB", "us", "ratio", "fastest peer"]
            + [entry.title for entry in compared]
            + ["OpenCL us", "PyTorch/OpenCL", "loop us", "loop GB/s", "loop ratio", "queued us",
               "PyTorch/queued", "suites"])


def cells(row, entries):
    compared = [entry for entry in entries[1:] if entry.role in ("peer", "blocked")]
    titles = {entry.key: entry.title for entry in entries}
    opencl = row.seconds.get("clnorm_opencl")
    queued = row.loop_seconds.get("clnorm_opencl_queued")
    return ([row.op, row.shape, f"{row.bytes / 2**20:.3g}", number(row.seconds[row.own] * 1e6, 1),
             number(row.ratio), titles.get(row.peer, "-")]
            + [number(row.ratios.get(entry.key)) for entry in compared]
            + [number(opencl * 1e6 if opencl else None, 1), number(row.opencl_ratio),
               number(row.loop_seconds[row.own] * 1e6, 1), number(row.gbps, 1),
               number(row.loop_ratio),
               number(queued * 1e6 if queued else None, 1), number(row.queued_ratio),
               " ".join(row.suites)])


def aligned(table, entries):
    """The table for a terminal."""
    lines = [header(entries)] + [cells(row, entries) for row in table]
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {0, 1, 5, len(widths) - 1}
    for line in lines:
        yield "  ".join(text.ljust(width) if k in left else text.rjust(width)
                        for k, (text, width) in enumerate(zip(line, widths))).rstrip()


def markdown_table(table, entries):
    titles = header(entries)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "|".join("---" if title in ("op", "fastest peer", "suites") else "--:"
                         for title in titles) + "|"
    for row in table:
        yield "| " + " | ".join(cells(row, entries)) + " |"


def markdown(table, entries, facts, plot):
    """The page that bench/results keeps."""
    lines = ["# clnorm beside its peers", "", "Forward batch normalization, f32, in a pipeline: a "
             "producer writes x, then the clock runs for the operation and a consumer that reads y "
             "once; both are the same for everybody. Ratio: the fastest peer's time on the same "
             "layout (NCHW) / clnorm's time on the CPU path; over 1, clnorm is faster, from 0.97 on "
             "it is level. The peers' own columns are such ratios too, medians of the rounds. Loop: "
             "the operation alone, again and again on the same x and y; GB/s counts the tensor once "
             "read and once written. Queued: calls on OpenCL that follow one another in the queue, "
             "of which only the last is waited for.", ""]
    lines += [f"- {sentence}." for sentence in sentences(table)] + [""]
    if plot:
        lines += [f"![Ratios over the tensor's size]({plot})", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items()), ""]
    lost = [row for row in table if row.lost]
    if lost:
        lines += ["## Lost", "", *markdown_table(lost, entries), ""]
    lines += ["## Level or ahead", "", *markdown_table([row for row in table if not row.lost], entries), ""]
    return "\n".join(lines)


def comma_separated(table, entries):
    """All figures, unrounded: seconds and ratios of everybody."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [entry.key for entry in entries]
    piped = [entry.key for entry in entries if entry.role != "queued"]
    writer.writerow(["op", "n", "c", "h", "w", "bytes", "suites", "rounds", "fastest_peer", "ratio"]
                    + [f"{key}_s" for key in piped] + [f"{key}_ratio" for key in piped[1:]]
                    + ["torch_to_opencl_ratio"]
                    + [f"{key}_loop_s" for key in keys] + [f"{key}_loop_ratio" for key in keys[1:]]
                    + ["torch_to_opencl_queued_loop_ratio"])
    for row in table:
        writer.writerow([row.op, *row.dims, row.bytes, " ".join(row.suites), row.result.rounds,
                         row.peer, f"{row.ratio:.4g}"]
                        + [f"{row.seconds.get(key, math.nan):.4g}" for key in piped]
                        + [f"{row.ratios.get(key, math.nan):.4g}" for key in piped[1:]]
                        + [f"{row.opencl_ratio:.4g}"]
                        + [f"{row.loop_seconds.get(key, math.nan):.4g}" for key in keys]
                        + [f"{row.result.loop_ratios.get(key, math.nan):.4g}" for key in keys[1:]]
                        + [f"{row.queued_ratio:.4g}"])
    return text.getvalue()


def plain(value):
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def as_json(table, entries, facts):
    cases = [{
        "op": row.op, "shape": list(row.dims), "bytes": row.bytes, "suites": row.suites,
        "rounds": row.result.rounds, "largest_differences": row.result.differences,
        "median_s": row.seconds, "ratios": row.ratios, "fastest_peer": row.peer,
        "loop_median_s": row.loop_seconds, "loop_ratios": row.result.loop_ratios,
        "ratio": plain(row.ratio), "lost": row.lost,
    } for row in table]
    contestants = [{"key": entry.key, "title": entry.title, "role": entry.role,
                    "description": entry.contestant.description} for entry in entries]
    figures = [{name: plain(value) for name, value in item.items()} for item in summaries(table)]
    return json.dumps({"facts": facts, "contestants": contestants, "summary": figures,
                       "cases": cases}, indent=1) + "\n"
