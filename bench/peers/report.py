"""What a run found, as aligned text, Markdown, CSV and JSON."""
import collections
import csv
import io
import json
import math
import statistics

import shapes

OPS = {"eval": "evaluation", "train": "training"}
LEVEL = 0.97  # evaluation is a copy: two of them at the ceiling are level
LARGE = 1 << 20  # bytes from which clnorm on OpenCL is compared with PyTorch
WORDS = ("op", "layout", "type", "N x C x H x W", "fastest peer", "suites")  # columns without numbers
OUTCOMES = ["lost", "kept", "alone"]

# role: "own" (clnorm's CPU path), "opencl" (clnorm on an OpenCL device, each call waited for), "queued" (the
# same with calls queued one after the other), "peer"
Entry = collections.namedtuple("Entry", "key title role contestant")
# seconds and ratios are of the pipeline, those of the loop have names of their own; left_out: who was not
# measured; kernels: what ran
Result = collections.namedtuple(
    "Result", "case seconds ratios loop_seconds loop_ratios rounds differences left_out kernels")
LeftOut = collections.namedtuple("LeftOut", "kind reason")  # kind: "not offered", "wrong"

Group = collections.namedtuple("Group", "op layout dtype")


class Row:
    """A result in the words of the report."""

    def __init__(self, result, entries):
        self.result = result
        self.op, self.layout, self.dtype, self.dims, self.suites = result.case
        self.group = Group(self.op, self.layout, self.dtype)
        self.shape = "x".join(map(str, self.dims))
        self.bytes = shapes.size(self.dims, self.dtype)
        self.seconds, self.ratios = result.seconds, result.ratios
        self.own = entries[0].key
        self.loop_seconds = result.loop_seconds
        self.gbps = 2 * self.bytes / self.loop_seconds[self.own] / 1e9
        self.peer = fastest(result, entries)
        self.ratio = self.ratios.get(self.peer, math.nan)
        self.opencl_ratio = self.ratios.get("torch_to_opencl", math.nan)
        self.loop_ratio = result.loop_ratios.get(self.peer, math.nan)
        self.queued_ratio = result.loop_ratios.get("torch_to_opencl_queued", math.nan)

    @property
    def outcome(self):
        """"lost", "kept" (level or ahead), or "alone": without a peer nothing is lost or won."""
        if self.peer is None:
            return "alone"
        return "lost" if self.ratio < LEVEL else "kept"

    def left_out(self, kind):
        """The keys of those that were left out for one kind of reason."""
        return [key for key, out in self.result.left_out.items() if out.kind == kind]


def fastest(result, entries):
    """The key of the fastest peer; None where there is none."""
    keys = [entry.key for entry in entries if entry.role == "peer" and entry.key in result.ratios]
    return min(keys, key=result.ratios.get, default=None)


def rows(results, entries):
    """Lost cases first, the worst at the top; the others by operation, layout, type and size."""
    made = [Row(result, entries) for result in results]
    return sorted(made, key=lambda row: (
        OUTCOMES.index(row.outcome), row.ratio if row.outcome == "lost" else 0, *order(row.group),
        row.bytes, row.dims))


def order(group):
    """Where a group stands among the others."""
    return (list(OPS).index(group.op), shapes.LAYOUTS.index(group.layout),
            list(shapes.TYPE_BYTES).index(group.dtype))


def groups(table):
    """Operation, layout and type of what was measured."""
    return sorted({row.group for row in table}, key=order)


def geometric_mean(values):
    values = [value for value in values if not math.isnan(value)]
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def summary(table, group):
    """The figures of one operation in one layout and type. Cases are those that a peer offers."""
    chosen = [row for row in table if row.group == group]
    large = [row for row in chosen
             if row.bytes > LARGE and not math.isnan(row.opencl_ratio)]
    alone = sum(row.outcome == "alone" for row in chosen)
    return {
        **group._asdict(),
        "cases": len(chosen) - alone,
        "alone": alone,
        "lost": sum(row.outcome == "lost" for row in chosen),
        "geomean_fastest_peer": geometric_mean([row.ratio for row in chosen]),
        "loop_lost": sum(row.loop_ratio < LEVEL for row in chosen),
        "geomean_loop": geometric_mean([row.loop_ratio for row in chosen]),
        "opencl_cases": len(large),
        "opencl_lost": sum(row.opencl_ratio < LEVEL for row in large),
        "geomean_opencl": geometric_mean([row.opencl_ratio for row in large]),
        "queued_lost": sum(row.queued_ratio < LEVEL for row in large),
        "geomean_queued": geometric_mean([row.queued_ratio for row in large]),
    }


def summaries(table):
    return [summary(table, group) for group in groups(table)]


def sentences(table):
    """The summaries in words, without those that nothing was measured for."""
    for figures in summaries(table):
        parts = [
            ("geomean_fastest_peer", "{lost} of {cases} cases lost, geometric mean "
             "{geomean_fastest_peer:.2f}x the fastest peer"),
            ("geomean_loop", "in the loop {loop_lost} lost, {geomean_loop:.2f}x that peer"),
            ("geomean_opencl", "OpenCL behind PyTorch on {opencl_lost} of {opencl_cases} tensors "
             "over 1 MiB, geometric mean {geomean_opencl:.2f}x"),
            ("geomean_queued", "in the loop, with calls queued, {queued_lost} of them, "
             "{geomean_queued:.2f}x"),
        ]
        texts = [text for key, text in parts if not math.isnan(figures[key])]
        if figures["alone"]:
            texts.append("no peer for {alone} cases")
        words = f"{OPS[figures['op']]}, {figures['layout']}, {figures['dtype']}: "
        yield words.capitalize() + "; ".join(texts).format(**figures)


def left_out_sentences(table, entries):
    """Who was left out of what, and why."""
    titles = {entry.key: entry.title for entry in entries}
    counts = collections.Counter()
    for row in table:
        for key, out in row.result.left_out.items():
            where = " ".join(row.group) + (f" {row.shape}" if out.kind == "wrong" else "")
            counts[f"{titles[key]}, {where}: {out.kind} ({out.reason})"] += 1
    for sentence, count in counts.items():
        yield sentence if count == 1 else f"{sentence}, {count} cases"


def largest_differences(table, entries):
    """How far the outputs of the others are from clnorm's, in words, for each type."""
    for dtype in shapes.TYPE_BYTES:
        differences = [row.result.differences for row in table if row.dtype == dtype]
        found = {entry.title: [each[entry.key] for each in differences if entry.key in each]
                 for entry in entries[1:]}
        parts = [f"{title} {max(values):.1e}" for title, values in found.items() if values]
        if parts:
            yield f"{dtype}: " + ", ".join(parts)


def number(value, digits=2):
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def peers(entries):
    return [entry for entry in entries if entry.role == "peer"]


def header(entries):
    """Titles of the columns; those of `cells`."""
    return (["op", "layout", "type", "N x C x H x W", "MiB", "us", "ratio", "fastest peer"]
            + [entry.title for entry in peers(entries)]
            + ["OpenCL us", "PyTorch/OpenCL", "loop us", "loop GB/s", "loop ratio", "queued us",
               "PyTorch/queued", "suites"])


def ratio_cell(row, key):
    """A contestant's ratio, or why it has none."""
    out = row.result.left_out.get(key)
    return out.kind if out else number(row.ratios.get(key))


def cells(row, entries):
    titles = {entry.key: entry.title for entry in entries}
    opencl = row.seconds.get("clnorm_opencl")
    queued = row.loop_seconds.get("clnorm_opencl_queued")
    return ([*row.group, row.shape, f"{row.bytes / 2**20:.3g}",
             number(row.seconds[row.own] * 1e6, 1), number(row.ratio), titles.get(row.peer, "-")]
            + [ratio_cell(row, entry.key) for entry in peers(entries)]
            + [number(opencl * 1e6 if opencl else None, 1), number(row.opencl_ratio),
               number(row.loop_seconds[row.own] * 1e6, 1), number(row.gbps, 1),
               number(row.loop_ratio),
               number(queued * 1e6 if queued else None, 1), number(row.queued_ratio),
               " ".join(row.suites)])


def aligned(table, entries):
    """The table for a terminal."""
    lines = [header(entries)] + [cells(row, entries) for row in table]
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {k for k, title in enumerate(lines[0]) if title in WORDS}
    for line in lines:
        yield "  ".join(text.ljust(width) if k in left else text.rjust(width)
                        for k, (text, width) in enumerate(zip(line, widths))).rstrip()


def markdown_table(table, entries):
    titles = header(entries)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "|".join("---" if title in WORDS else "--:" for title in titles) + "|"
    for row in table:
        yield "| " + " | ".join(cells(row, entries)) + " |"


def markdown(table, entries, facts, plot):
    """The page that bench/results keeps."""
    lines = ["# clnorm beside its peers", "", "Forward batch normalization in a pipeline: a "
             "producer writes x, then the clock runs for the operation and a consumer that reads y "
             "once; both are the same for everybody. Layout and type are those of x and y, the same "
             "for everybody too; parameters and statistics are f32. Ratio: the fastest peer's time / "
             "clnorm's time on the CPU path; over 1, clnorm is faster, from 0.97 on it is level. The "
             "peers' own columns are such ratios too, medians of the rounds; a peer that does not "
             "offer a case has no part in it: nothing is lost or won against it. Loop: "
             "the operation alone, again and again on the same x and y; GB/s counts the tensor once "
             "read and once written. Queued: calls on OpenCL that follow one another in the queue, "
             "of which only the last is waited for.", ""]
    lines += [f"- {sentence}." for sentence in sentences(table)] + [""]
    if plot:
        lines += [f"![Ratios over the tensor's size]({plot})", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items()), ""]
    for outcome, title in zip(OUTCOMES, ("Lost", "Level or ahead", "Without a peer")):
        chosen = [row for row in table if row.outcome == outcome]
        if chosen:
            lines += [f"## {title}", "", *markdown_table(chosen, entries), ""]
    notes = list(left_out_sentences(table, entries))
    if notes:
        lines += ["## Left out", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)


def comma_separated(table, entries):
    """All figures, unrounded: seconds and ratios of everybody."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [entry.key for entry in entries]
    piped = [entry.key for entry in entries if entry.role != "queued"]
    writer.writerow(["op", "layout", "dtype", "n", "c", "h", "w", "bytes", "suites", "rounds",
                     "not_offered", "wrong", "fastest_peer", "ratio"]
                    + [f"{key}_s" for key in piped] + [f"{key}_ratio" for key in piped[1:]]
                    + ["torch_to_opencl_ratio"]
                    + [f"{key}_loop_s" for key in keys] + [f"{key}_loop_ratio" for key in keys[1:]]
                    + ["torch_to_opencl_queued_loop_ratio"])
    for row in table:
        writer.writerow([*row.group, *row.dims, row.bytes, " ".join(row.suites), row.result.rounds,
                         " ".join(row.left_out("not offered")), " ".join(row.left_out("wrong")),
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
        **row.group._asdict(), "shape": list(row.dims), "bytes": row.bytes, "suites": row.suites,
        "rounds": row.result.rounds, "largest_differences": row.result.differences,
        "median_s": row.seconds, "ratios": row.ratios, "fastest_peer": row.peer,
        "loop_median_s": row.loop_seconds, "loop_ratios": row.result.loop_ratios,
        "kernels": row.result.kernels,
        "left_out": {key: out._asdict() for key, out in row.result.left_out.items()},
        "ratio": plain(row.ratio), "outcome": row.outcome,
    } for row in table]
    contestants = [{"key": entry.key, "title": entry.title, "role": entry.role,
                    "description": entry.contestant.description} for entry in entries]
    figures = [{name: plain(value) for name, value in item.items()} for item in summaries(table)]
    return json.dumps({"facts": facts, "contestants": contestants, "summary": figures,
                       "cases": cases}, indent=1) + "\n"
