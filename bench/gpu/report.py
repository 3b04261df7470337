"""The report: Markdown for people, from what a run has found so far."""
import math

import steps

MIB = 1 << 20


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain(text):
    """One line of a table."""
    return " ".join(str(text).split())


def elements(shape):
    return math.prod(int(part) for part in shape.split("x"))


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


# ---- clnorm beside PyTorch ----------------------------------------------------------------------------

class Row:
    """One operation on one shape. Fractions are of the best copy that either of the two made of it."""

    def __init__(self, ours, theirs):
        known = ours or theirs
        self.op, self.shape = known["op"], known["shape"]
        self.variant = (ours or {}).get("variant", "")
        self.bytes = 8.0 * elements(self.shape)  # read once, written once, f32
        self.seconds = (ours or {}).get("median_s")
        self.peer_seconds = (theirs or {}).get("median_s")
        self.copy_seconds = self.bytes / (ours["ceiling_gbps"] * 1e9) if ours else None
        self.peer_copy_seconds = (theirs or {}).get("copy_s")
        self.ceiling_seconds = min(filter(None, (self.copy_seconds, self.peer_copy_seconds)), default=None)

    def fraction(self, seconds):
        return self.ceiling_seconds / seconds if seconds and self.ceiling_seconds else None

    def rate(self, seconds):
        return self.bytes / seconds * 1e-9 if seconds else None

    @property
    def ratio(self):
        return self.peer_seconds / self.seconds if self.seconds and self.peer_seconds else None

    def cells(self):
        return [self.op, self.shape, number(self.bytes / 2 / MIB, 2),
                number(self.seconds and self.seconds * 1e6, 1),
                number(self.peer_seconds and self.peer_seconds * 1e6, 1),
                number(self.rate(self.copy_seconds), 0), number(self.rate(self.peer_copy_seconds), 0),
                number(self.fraction(self.seconds), 2), number(self.fraction(self.peer_seconds), 2),
                number(self.ratio, 2)]


def rows(found):
    """Of all that was measured, in the order of the list of operations."""
    ours = {(row["op"], row["shape"]): row for row in found["bench"]}
    theirs = {(row["op"], row["shape"]): row for row in found["torch"]}
    keys = [(op, shape) for group in found["groups"] for op in found["operations"] for shape in group["shapes"]]
    return [Row(ours.get(key), theirs.get(key)) for key in dict.fromkeys(keys) if key in ours or key in theirs]


def summary_cells(name, op, chosen):
    fractions = [row.fraction(row.seconds) for row in chosen if row.seconds]
    peers = [row.fraction(row.peer_seconds) for row in chosen if row.peer_seconds]
    ratios = [row.ratio for row in chosen if row.ratio]
    lost = sum(ratio < 0.97 for ratio in ratios)
    return [name, op, len(fractions), number(geometric_mean(fractions), 2), number(min(fractions, default=None), 2),
            number(geometric_mean(peers), 2), number(geometric_mean(ratios), 2),
            f"{lost} of {len(ratios)}" if ratios else "-"]


def summary(found, all_rows):
    lines = []
    for group in found["groups"]:
        for op in found["operations"]:
            chosen = [row for row in all_rows if row.op == op and row.shape in group["shapes"]]
            if chosen:
                lines.append(summary_cells(group["name"], op, chosen))
    return table(["shapes", "operation", "measured", "fraction", "smallest", "PyTorch's fraction", "PyTorch / clnorm",
                  "lost (below 0.97)"], lines)


def peer_clock_sentence(found):
    texts = {"graph": "CUDA events around replays of a graph of many calls",
             "calls": "CUDA events around many calls, with the time to launch them",
             "host": "the host's, of PyTorch on the processor: not to be compared with a GPU"}
    clocks = sorted({row["clock"] for row in found["torch"]})
    if not clocks:
        return "PyTorch was not measured."
    return f"PyTorch's: {'; '.join(texts.get(clock, clock) for clock in clocks)}."


def speed(found):
    all_rows = rows(found)
    if not all_rows:
        return ["No speed was measured."]
    return [
        "Fraction: time of the best plain copy of the same bytes (read once, written once) in this run, clnorm's or "
        "PyTorch's, over the time of the operation. Each call is repeated on the same memory, for both; what fits "
        "the last cache stays there. Training that reads x twice from memory can reach 0.67.",
        "clnorm's times are the device's own (profiling events, first launch to last). " + peer_clock_sentence(found),
        summary(found, all_rows),
        table(["op", "shape", "MiB", "clnorm us", "PyTorch us", "copy GB/s, clnorm", "copy GB/s, PyTorch", "fraction",
               "PyTorch's fraction", "PyTorch / clnorm"], [row.cells() for row in all_rows])]


# ---- The other parts ----------------------------------------------------------------------------------

def verification(found):
    if not found["verify"]:
        return ["Nothing was verified."]
    lines = [[name, "; ".join(v["devices"]), v["cases"], v["differing_elements"], v["max_ulp"],
              f"{v['worst_bound_ratio']:.3f}", v.get("not_promised", {}).get("cases", "-"), len(v["failures"])]
             for name, v in found["verify"].items()]
    failures = [f"- {name}: {plain(failure)}" for name, v in found["verify"].items() for failure in v["failures"][:5]]
    return [table(["part", "device", "cases", "differing elements", "max ulp", "error / bound", "not promised",
                   "failures"], lines), *(["\n".join(failures)] if failures else [])]


def tuning(found):
    if not found["tune"]:
        return ["Nothing was tuned."]
    lines = [[d["device"], name, d["rule"].get(name, "-"), d["chosen"].get(name, "-")]
             for d in found["tune"]["devices"] for name in d["rule"]]
    notes = [f"- {note}" for d in found["tune"]["devices"] for note in d.get("notes", [])]
    return [table(["device", "parameter", "rule", "chosen"], lines), *(["\n".join(notes)] if notes else [])]


def failures(found):
    texts = [] if any(w["result"].startswith("taken") for w in found["ways"]) else [
        "**No way to the GPU**: what each way lacks stands under \"Ways to the GPU\"."]
    for result in found["steps"]:
        if result["status"] == steps.GOOD:
            continue
        last = "\n".join("    " + line for line in result["last_lines"])
        texts.append(f"**{result['name']}**: {result['status']}. {result['note']}" + (f"\n\n{last}" if last else ""))
    return texts or ["None."]


def ran(found):
    return table(["step", "result", "seconds", ""], [[r["name"], r["status"], f"{r['seconds']:.1f}", plain(r["note"])]
                                                     for r in found["steps"]])


def verdict(found):
    bad = sum(result["status"] != steps.GOOD for result in found["steps"])
    differing = sum(v["differing_elements"] for v in found["verify"].values())
    cases = sum(v["cases"] for v in found["verify"].values())
    text = (f"{len(found['steps'])} steps, {bad} of them not good; "
            f"{cases} cases verified, {differing} differing elements.")
    return text if found["finished"] else f"**Not finished** ({found['stage']}). {text}"


def markdown(found):
    facts = table(["what", ""], [[name, plain(value)] for name, value in found["facts"].items()])
    sections = [
        ("# clnorm on a GPU", [verdict(found), facts]),
        ("## Ways to the GPU", [table(["way", "driver", "result"], [[w["name"], w["driver"], plain(w["result"])]
                                                                    for w in found["ways"]])]),
        ("## Speed", speed(found)),
        ("## Bits", verification(found)),
        ("## Tuning (dry run)", tuning(found)),
        ("## What ran", [ran(found)]),
        ("## What failed", failures(found))]
    return "\n\n".join(text for title, parts in sections for text in (title, *parts)) + "\n"
