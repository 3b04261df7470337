"""The plot: the tensor's size against the ratio of times, one panel for each operation and layout; types differ
by color."""
import collections
import math
import textwrap
from xml.sax.saxutils import escape

import report

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 900, 330, 70, 35, 95, 75
NOTE = 17  # from one line of notes to the next
LINE = 24  # from one line of the legend to the next
SERIES = [  # attribute of a row, text, shape
    ("ratio", "fastest peer / clnorm CPU", "circle"),
    ("queued_ratio", "PyTorch / OpenCL (loop, queued)", "triangle"),
]
COLORS = {"f32": "#1f5fbf", "f16": "#d9822b", "bf16": "#3a8f4d"}
TRIANGLE = [(0, -5), (5, 4), (-5, 4)]

Panel = collections.namedtuple("Panel", "op layout")


class Axis:
    """A logarithmic axis from [low, high] onto [begin, end]."""

    def __init__(self, values, begin, end, base):
        self.low = math.floor(math.log(min(values), base) + 1e-9)
        self.high = max(math.ceil(math.log(max(values), base) - 1e-9), self.low + 1)
        self.begin, self.end, self.base = begin, end, base

    def __call__(self, value):
        part = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    def ticks(self):
        return [self.base ** k for k in range(self.low, self.high + 1)]


def bytes_text(value):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:g} {unit}"
        value /= 1024
    return ""


def times_text(value):
    return f"{value:g}x" if value >= 1 else f"1/{1 / value:g}"


def label(x, y, text, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>'


def line(x1, y1, x2, y2, color="#e3e3e3"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def mark(x, y, color, shape, title=""):
    """A point; a browser shows its title under the pointer."""
    inner = f"<title>{escape(title)}</title>" if title else ""
    style = f'fill="{color}" fill-opacity="0.65" stroke="{color}"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}>{inner}</circle>'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in TRIANGLE)
    return f'<polygon points="{points}" {style}>{inner}</polygon>'


def grid(across, up, top, panel):
    """The panel's frame: lines, numbers, and the part where clnorm is the slower one shaded."""
    bottom = top + PANEL
    yield (f'<rect x="{LEFT}" y="{up(1):.1f}" width="{WIDTH - LEFT - RIGHT}" '
           f'height="{bottom - up(1):.1f}" fill="#fbeceb"/>')
    for value in across.ticks():
        yield line(across(value), top, across(value), bottom)
        yield label(across(value), bottom + 18, bytes_text(value))
    for value in up.ticks():
        yield line(LEFT, up(value), WIDTH - RIGHT, up(value), "#555" if value == 1 else "#e3e3e3")
        yield label(LEFT - 8, up(value) + 4, times_text(value), "end")
    yield label(LEFT, top - 10, f"{report.OPS[panel.op].capitalize()}, {panel.layout}: times faster than ...", "start",
                'font-weight="bold"')
    yield label(WIDTH - RIGHT - 6, bottom - 8, "clnorm is slower", "end", 'fill="#a33"')
    yield label((LEFT + WIDTH - RIGHT) / 2, bottom + 38, "size of the tensor")




def points(table, panel, across, up):
    for attribute, _, shape in SERIES:
        for row in table:
            ratio = getattr(row, attribute)
            if (row.op, row.layout) == panel and not math.isnan(ratio):
                title = f"{' '.join(row.group)} {row.shape} ({' '.join(row.suites)}): {ratio:.2f}x"
                yield mark(across(row.bytes), up(ratio), COLORS[row.dtype], shape, title)


def legend(dtypes):
    """A line for each series, with a mark for each type."""
    for k, (_, text, shape) in enumerate(SERIES):
        y = 30 + LINE * k
        yield label(LEFT, y + 4, text, "start")
        for i, dtype in enumerate(dtypes):
            yield mark(LEFT + 240 + 80 * i, y, COLORS[dtype], shape)
            yield label(LEFT + 252 + 80 * i, y + 4, dtype, "start")


def wrapped(notes):
    """Lines that fit the width."""
    return [line for note in notes for line in textwrap.wrap(note, 125, subsequent_indent="\u2003")]


def footer(lines, top):
    """What a published number has to name."""
    for k, line_of_text in enumerate(lines):
        yield label(LEFT, top + NOTE * k, line_of_text, "start", 'font-size="11" fill="#444"')


def ratios_of(table):
    values = [getattr(row, attribute) for row in table for attribute, *_ in SERIES]
    return [value for value in values if not math.isnan(value)] + [0.9, 1.1]


def svg(table, notes):
    """The whole picture; notes, such as machine, drivers and date, stand below it."""
    panels = list(dict.fromkeys(Panel(group.op, group.layout) for group in report.groups(table)))
    dtypes = [dtype for dtype in COLORS if any(row.dtype == dtype for row in table)]
    bottom = TOP + len(panels) * (PANEL + GAP)
    below = wrapped(notes)
    height = bottom + NOTE * len(below)
    across = Axis([row.bytes for row in table], LEFT, WIDTH - RIGHT, 4)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *legend(dtypes)]
    for k, panel in enumerate(panels):
        top = TOP + k * (PANEL + GAP)
        up = Axis(ratios_of(table), top + PANEL, top, 2)
        lines += [*grid(across, up, top, panel), *points(table, panel, across, up)]
    return "\n".join([*lines, *footer(below, bottom), "</svg>", ""])
