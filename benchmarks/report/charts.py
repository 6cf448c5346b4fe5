"""Charts as inline SVG whose colours are variables of the page's style sheet, so that both themes fit them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

STYLES = 8  # colours of the style sheet; further series repeat them with another dash
DASHES = ("", "7 3", "2 3", "9 3 2 3")
CHAR = 8.2  # width that a bold letter of 12.5 units may take


def number(value: float) -> str:
    """Return a coordinate or label without needless digits."""
    return f"{value:.6g}"


def word(kind: str, x: float, y: float, place: str, content: str) -> str:
    """Return text of a class at a place; `place` is start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{place}">{escape(content)}</text>'


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round numbers within [low, high], about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within [low, high]; powers alone where those would crowd."""
    found = [
        m * 10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    inside = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    powers = [value for value in inside if abs(math.log10(value) - round(math.log10(value))) < 1e-9]
    return inside if len(inside) <= 8 else powers


@dataclass
class Axis:
    """A range of values along one side of a chart.

    Attributes:
        label: printed beside the axis.
        low, high: ends in data units; positive when `log`.
        log: equal ratios take equal lengths.
    """

    label: str
    low: float
    high: float
    log: bool = False
    count: int = 6

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return the values that are printed."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, self.count)


@dataclass
class Chart:
    """A chart under construction: axes first, then lines and points in data units.

    Attributes:
        name: unique in the page; prefix of ids.
        title: what is read out and shown on hovering.
        x, y: the axes.
        width, height: of the drawing, in its own units (one is about a pixel).
    """

    name: str
    title: str
    x: Axis
    y: Axis
    width: int = 640
    height: int = 380
    left: int = 58
    bottom: int = 48
    top: int = 14
    right: int = 18
    body: list[str] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return self.left + self.x.share(value) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return self.height - self.bottom - self.y.share(value) * (self.height - self.bottom - self.top)

    def line(self, label: str, style: int, x: Sequence[float], y: Sequence[float], marks: bool = False) -> None:
        """Draw a line through points; with `marks`, each point is a dot that tells its value."""
        places = [(self.px(a), self.py(b)) for a, b in zip(x, y, strict=True)]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        dash = DASHES[style // STYLES % len(DASHES)]
        self.body.append(
            f'<path class="line s{style % STYLES}" data-series="{style}" data-label="{escape(label)}" d="{path}" '
            f'clip-path="url(#{self.name}-clip)"' + (f' stroke-dasharray="{dash}"' if dash else "") + "/>"
        )
        for (a, b), first, second in zip(places, x, y, strict=True):
            if marks and self.y.low <= second <= self.y.high:
                tip = escape(f"{label}: {second:.2f} at {first:g}")
                self.body.append(f'<circle class="dot s{style % STYLES}" data-series="{style}" cx="{a:.1f}" '
                                 f'cy="{b:.1f}" r="2.8"><title>{tip}</title></circle>')  # fmt: skip

    def rule(self, value: float, text: str) -> None:
        """Draw a dashed vertical rule with a word beside it."""
        a = self.px(value)
        self.body.append(f'<line class="rule" x1="{a:.1f}" x2="{a:.1f}" y1="{self.top}" '
                         f'y2="{self.height - self.bottom}"/><text class="note" x="{a - 6:.1f}" '
                         f'y="{self.height - self.bottom - 8}" text-anchor="end">{escape(text)}</text>')  # fmt: skip

    def steps(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Draw a muted staircase through points in the order of x: the front that nothing else beats."""
        path = f"M{self.px(x[0]):.1f} {self.py(y[0]):.1f}"
        for a, b in zip(x[1:], y[1:], strict=True):
            path += f"H{self.px(a):.1f}V{self.py(b):.1f}"
        self.body.append(f'<path class="front" d="{path}H{self.width - self.right}"/>')

    def point(self, style: int, x: float, y: float, low_high: tuple[float, float] | None, tip: str) -> None:
        """Draw a point, with the whisker of its interval along y."""
        a, b = self.px(x), self.py(y)
        if low_high is not None:
            low, high = (min(max(self.py(v), self.top), self.height - self.bottom) for v in low_high)
            self.taken.append((a - 4, low, a + 4, high))
            path = f"M{a:.1f} {low:.1f}V{high:.1f}M{a - 4:.1f} {low:.1f}h8M{a - 4:.1f} {high:.1f}h8"
            self.body.append(f'<path class="whisker s{style % STYLES}" data-series="{style}" d="{path}"/>')
        self.body.append(f'<circle class="dot s{style % STYLES}" data-series="{style}" cx="{a:.1f}" cy="{b:.1f}" '
                         f'r="5.5"><title>{escape(tip)}</title></circle>')  # fmt: skip
        self.taken.append((a - 8, b - 8, a + 8, b + 8))

    def name_points(self, points: Sequence[tuple[str, int, float, float]]) -> None:
        """Write (label, style, x, y) beside drawn points where it covers least."""
        for label, style, x, y in points:
            a, b, length = self.px(x), self.py(y), len(label) * CHAR
            spots = [(a + 11, b + 4, "start"), (a - 11, b + 4, "end"), (a, b - 13, "middle"), (a, b + 22, "middle"),
                     (a + 9, b - 11, "start"), (a + 9, b + 19, "start"), (a - 9, b - 11, "end"),
                     (a - 9, b + 19, "end")]  # fmt: skip
            boxes = []
            for c, d, anchor in spots:
                start = c - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * length
                boxes.append((start, d - 11, start + length, d + 3))
            best = min(range(len(spots)), key=lambda k: (self._cost(boxes[k]), k))
            self.taken.append(boxes[best])
            c, d, anchor = spots[best]
            self.body.append(f'<text class="name s{style % STYLES}" data-series="{style}" x="{c:.1f}" y="{d:.1f}" '
                             f'text-anchor="{anchor}">{escape(label)}</text>')  # fmt: skip

    def _cost(self, box: tuple[float, float, float, float]) -> float:
        """Return how much of a box covers what stands already or leaves the drawing."""
        left, top, right, bottom = box
        outside = max(0.0, self.left - left) + max(0.0, right - self.width + 2) + max(0.0, self.top - top)
        overlap = sum(
            max(0.0, min(right, c) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b)) for a, b, c, d in self.taken
        )
        return overlap + 100 * outside

    def _frame(self) -> list[str]:
        """Return grid, tick labels and axis titles."""
        right, floor = self.width - self.right, self.height - self.bottom
        parts = []
        for value in self.x.ticks():
            a = self.px(value)
            parts.append(f'<line class="grid" x1="{a:.1f}" x2="{a:.1f}" y1="{self.top}" y2="{floor}"/>')
            parts.append(word("tick", a, floor + 17, "middle", number(value)))
        for value in self.y.ticks():
            b = self.py(value)
            parts.append(f'<line class="grid" x1="{self.left}" x2="{right}" y1="{b:.1f}" y2="{b:.1f}"/>')
            parts.append(word("tick", self.left - 7, b + 4, "end", number(value)))
        middle = (self.top + floor) / 2
        parts.append(f'<line class="base" x1="{self.left}" x2="{right}" y1="{floor}" y2="{floor}"/>'
                     f'<text class="axis" x="{(self.left + right) / 2:.1f}" y="{self.height - 8}" '
                     f'text-anchor="middle">{escape(self.x.label)}</text>'
                     f'<text class="axis" transform="translate(14 {middle:.1f}) rotate(-90)" '
                     f'text-anchor="middle">{escape(self.y.label)}</text>')  # fmt: skip
        return parts

    def svg(self, read: bool = False) -> str:
        """Return the drawing; with `read`, a cursor tells the lines' values where the page runs its script."""
        place = f"{self.left} {self.width - self.right} {self.top} {self.height - self.bottom}"
        scale = f"{number(self.x.low)} {number(self.x.high)} {number(self.y.low)} {number(self.y.high)}"
        data = f' data-read data-place="{place}" data-scale="{scale}"' if read else ""
        clip = (f'<clipPath id="{self.name}-clip"><rect x="{self.left}" y="{self.top - 2}" '
                f'width="{self.width - self.left - self.right}" height="{self.height - self.bottom - self.top + 4}"/>'
                "</clipPath>")  # fmt: skip
        parts = "".join((clip, *self._frame(), *self.body))
        return (f'<svg id="{self.name}" class="chart" viewBox="0 0 {self.width} {self.height}" role="img" '
                f'aria-label="{escape(self.title)}"{data}>{parts}</svg>')  # fmt: skip


def whisker(value: float, interval: tuple[float, float] | None, low: float, high: float, style: int) -> str:
    """Return a small drawing of a value and its interval on the scale [low, high], for a table's cell."""
    width, height = 100, 18

    def place(v: float) -> float:
        return 5 + (width - 10) * (min(max(v, low), high) - low) / max(high - low, 1e-12)

    bar = ""
    if interval is not None:
        a, b = (place(v) for v in interval)
        bar = f'<path class="whisker s{style % STYLES}" d="M{a:.1f} 9H{b:.1f}M{a:.1f} 5v8M{b:.1f} 5v8"/>'
    return (f'<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
            f'<line class="base" x1="0" x2="{width}" y1="9" y2="9"/>{bar}'
            f'<circle class="dot s{style % STYLES}" cx="{place(value):.1f}" cy="9" r="4"/></svg>')  # fmt: skip


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, error) that no cheaper point matches, by rising cost."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


def from_zero(values: Sequence[float]) -> tuple[float, float]:
    """Return ends of an axis from zero to a little beyond the values."""
    return 0.0, float(np.max(values)) * 1.12 or 1.0


def around(values: Sequence[float]) -> tuple[float, float]:
    """Return ends of an axis a little below and above the values."""
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.18 * (high - low) or 0.2 * abs(high) or 1.0
    return max(0.0, low - room), high + room


def ratios(values: Sequence[float]) -> tuple[float, float]:
    """Return ends of a logarithmic axis around the values, with room for names on the right."""
    return float(np.min(values)) / 1.8, float(np.max(values)) * 2.6
