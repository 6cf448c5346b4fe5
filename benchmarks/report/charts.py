"""Charts as vector graphics whose colours are variables of the page's style sheet, so that both themes fit them.

Here is where things lie; `templates/macros.html.j2` writes them as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STYLES = 8  # colours of the style sheet; further series repeat them
DASHES = ("", "7 3", "2 3", "9 3 2 3")  # with the colours, so that nothing depends on colour alone
LETTER = 7.6  # units that a digit of a tick's label takes
WIDE, NARROW = 760, 380  # units a chart is wide on a screen and on a phone; a unit is about a pixel
TOP, RIGHT, BOTTOM = 14, 16, 46


def number(value: float) -> str:
    """Return a coordinate or label without needless digits."""
    return f"{value:.6g}"


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round numbers within [low, high], about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within [low, high]; powers alone where those would be more than `most`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [m * 10.0**k for k in powers for m in (1, 2, 5) if low * (1 - 1e-9) <= m * 10.0**k <= high * (1 + 1e-9)]
    alone = [value for value in inside if abs(math.log10(value) - round(math.log10(value))) < 1e-9]
    return inside if len(inside) <= most or not alone else alone


def mark(style: int, x: float, y: float, radius: float = 5.5) -> str:
    """Return the outline of a series' mark: circle, square, diamond or triangle about (x, y)."""
    r = radius
    return (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {1.3 * r:.1f}"
        f"l{-1.3 * r:.1f} {-1.3 * r:.1f}z",
        f"M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:.1f} {2.1 * r:.1f}h{-2.4 * r:.1f}z",
    )[style % 4]


@dataclass(frozen=True)
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

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """Return the values that are printed, about `count`."""
        return log_ticks(self.low, self.high, count) if self.log else ticks(self.low, self.high, count)


@dataclass(frozen=True)
class Stroke:
    """Something drawn: an SVG path of a series, and what is said of it."""

    kind: str
    path: str
    style: int
    tip: str = ""

    @property
    def dash(self) -> str:
        """The dashes of a line."""
        return DASHES[self.style % len(DASHES)] if self.kind == "line" else ""


@dataclass
class Chart:
    """A chart under construction: axes first, then lines and points in data units.

    Attributes:
        name: unique in the page; prefix of ids.
        title: what is read out.
        x, y: the axes.
        width, height: of the drawing, in its own units (one is about a pixel).
        read: a cursor shows the lines' values where the page runs its script.
        strokes: what was drawn, in order.
        rules: (x, words) of dashed vertical rules.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    width: int = WIDE
    height: int = 380
    read: bool = False
    strokes: list[Stroke] = field(default_factory=list)
    rules: list[tuple[float, str]] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Left end of the plot: the axis title, then the labels, never one over the other."""
        return 34 + LETTER * max(len(number(value)) for value in self.y.ticks(self.height // 50))

    @property
    def right(self) -> float:
        """Right end of the plot."""
        return self.width - RIGHT

    @property
    def floor(self) -> float:
        """Lower end of the plot."""
        return self.height - BOTTOM

    def px(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return self.left + self.x.share(value) * (self.right - self.left)

    def py(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return self.floor - self.y.share(value) * (self.floor - TOP)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Return place and label of the ticks along x, as many as have room."""
        return [(self.px(v), number(v)) for v in self.x.ticks(int((self.right - self.left) // 50))]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Return place and label of the ticks along y."""
        return [(self.py(v), number(v)) for v in self.y.ticks(self.height // 50)]

    def line(self, label: str, style: int, x: Sequence[float], y: Sequence[float], marks: bool = False) -> None:
        """Draw a line through points; with `marks`, each point is a mark that says its value."""
        places = [(self.px(a), self.py(b)) for a, b in zip(x, y, strict=True)]
        self.strokes.append(Stroke("line", "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places), style, label))
        for (a, b), first, second in zip(places, x, y, strict=True):
            if marks and self.y.low <= second <= self.y.high:
                self.strokes.append(Stroke("dot", mark(style, a, b, 2.6), style, f"{label}: {second:.2f} at {first:g}"))

    def steps(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Draw a muted staircase through points in the order of x: the Pareto front."""
        turns = "".join(f"H{self.px(a):.1f}V{self.py(b):.1f}" for a, b in zip(x[1:], y[1:], strict=True))
        self.strokes.append(Stroke("front", f"M{self.px(x[0]):.1f} {self.py(y[0]):.1f}{turns}H{self.right}", 0))

    def point(self, style: int, x: float, y: float, low_high: tuple[float, float] | None, tip: str) -> None:
        """Draw a mark, with the whisker of its interval along y."""
        a, b = self.px(x), self.py(y)
        if low_high is not None:
            low, high = (min(max(self.py(v), TOP), self.floor) for v in low_high)
            path = f"M{a:.1f} {low:.1f}V{high:.1f}M{a - 4:.1f} {low:.1f}h8M{a - 4:.1f} {high:.1f}h8"
            self.strokes.append(Stroke("whisker", path, style))
        self.strokes.append(Stroke("dot", mark(style, a, b), style, tip))


def both(draw: Callable[[str, int], Chart]) -> list[Chart]:
    """Return a chart for a screen and one for a phone; `draw` takes the end of its name and its width."""
    return [draw("", WIDE), draw("-narrow", NARROW)]


def whisker(value: float, interval: tuple[float, float] | None, low: float, high: float) -> tuple[str, float]:
    """Return the path of a small interval, and the place of its value, on the scale [low, high] of 100 units."""

    def place(v: float) -> float:
        return 5 + 90 * (min(max(v, low), high) - low) / max(high - low, 1e-12)

    if interval is None:
        return "", place(value)
    a, b = (place(v) for v in interval)
    return f"M{a:.1f} 9H{b:.1f}M{a:.1f} 5v8M{b:.1f} 5v8", place(value)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, error) that no cheaper point matches, by rising cost."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


def from_zero(values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    """Return ends of an axis from zero to a little beyond the values, or to `most` where they go further."""
    return 0.0, min(max(values) * 1.12, most) or 1.0


def around(values: Sequence[float]) -> tuple[float, float]:
    """Return ends of an axis a little below and above the values."""
    low, high = min(values), max(values)
    room = 0.18 * (high - low) or 0.2 * abs(high) or 1.0
    return max(0.0, low - room), high + room


def ratios(values: Sequence[float]) -> tuple[float, float]:
    """Return ends of a logarithmic axis around the values."""
    return min(values) / 1.8, max(values) * 1.8
