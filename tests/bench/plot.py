# SPDX-License-Identifier: GPL-2.0-or-later
"""Line plots as SVG, with linear or logarithmic axes."""
import html
import math

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b",
           "#e377c2", "#7f7f7f", "#bcbd22")
WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 330, 40, 50


class Axis:
    """Values to pixels, and its ticks."""

    def __init__(self, values, first, last, log):
        self.log = log
        low, high = min(values), max(values)
        if log:
            low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
        else:
            low, high = 0, high * 1.05 or 1
        self.low, self.high = low, max(high, low + 1e-9)
        self.first, self.last = first, last

    def at(self, value):
        """The pixel of a value."""
        value = math.log10(value) if self.log else value
        part = (value - self.low) / (self.high - self.low)
        return round(self.first + part * (self.last - self.first), 1)

    def ticks(self):
        """Values to be written beside it."""
        if self.log:
            return [10.0 ** power for power in range(self.low, self.high + 1)]
        step = 10.0 ** math.floor(math.log10(self.high))
        while self.high / step < 4:
            step /= 2
        return [step * i for i in range(int(self.high / step) + 1)]


def short(value):
    """A number for a tick."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def text(x, y, words, anchor="start", size=12):
    """An element of text."""
    return (f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">'
            f'{html.escape(words)}</text>')


def frame(x, y, title, labels):
    """Grid, ticks and names."""
    parts = [text(LEFT, 22, title, size=15)]
    for value in x.ticks():
        at = x.at(value)
        parts.append(f'<path d="M{at} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(text(at, HEIGHT - BOTTOM + 16, short(value), "middle"))
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, at + 4, short(value), "end"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, HEIGHT - 12, labels[0], "middle"))
    parts.append(f'<g transform="rotate(-90 16 {HEIGHT / 2})">'
                 f'{text(16, HEIGHT / 2, labels[1], "middle")}</g>')
    return parts


def plot(path, title, labels, series, log=(False, False)):
    """Writes lines {name: [(x, y)]}; on a logarithmic axis only what is above 0."""
    series = {name: [(x, y) for x, y in points if (x > 0 or not log[0]) and (y > 0 or not log[1])]
              for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return False
    x = Axis([p[0] for s in series.values() for p in s], LEFT, WIDTH - RIGHT, log[0])
    y = Axis([p[1] for s in series.values() for p in s], HEIGHT - BOTTOM, TOP, log[1])
    parts = frame(x, y, title, labels)
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="6 3"' if number >= len(COLOURS) else ""
        line = " ".join(f"{x.at(a)},{y.at(b)}" for a, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                     f'stroke-width="1.8"{dash}/>')
        at = TOP + 16 * number + 8
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {at}h18" stroke="{colour}" '
                     f'stroke-width="2"{dash}/>')
        parts.append(text(WIDTH - RIGHT + 36, at + 4, name, size=11))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts) + "\n</svg>\n", encoding="utf-8")
    return True
