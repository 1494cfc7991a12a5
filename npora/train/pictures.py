"""Runs drawn: loss, learning rate, and what evaluations found."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from npora.files.picture import COLOURS, LINES, MARKERS, blank, saved
from npora.train.runs import RecordedRun

_MOST_POINTS = 2000  # of a line
_MEMORY = 30  # the smoothed line forgets a step within about a thirtieth of the run


def draw_runs(runs: Sequence[RecordedRun], path: str | os.PathLike[str] | None = None) -> Any:
    """A panel for the loss, one for the learning rate, one for each metric; each run has a colour and a kind of line.

    The loss of single steps is pale, and their mean over the last steps is drawn over it, with eval_loss as marks. A
    step at which a run stopped for a number that is not finite is a cross on its last loss. Returns matplotlib's
    figure.

    Raises
    ------
    ImportError: without matplotlib.  ValueError: no run has a step yet.
    """
    if not any(run.steps("loss")[0] for run in runs):
        raise ValueError(f"there is no step to draw in {', '.join(run.name for run in runs)}")
    metrics = list(dict.fromkeys(name for run in runs for name in run.measured()))
    beside = [name for name in metrics if name == "eval_loss"]
    panels = ["loss", "learning_rate", *(name for name in metrics if name not in beside)]
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = blank(5.5 * columns, 3.2 * lines + 0.4)
    for place, what in enumerate(panels, start=1):
        axes = figure.add_subplot(lines, columns, place)
        for number, run in enumerate(runs):
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}
            marker = MARKERS[number % len(MARKERS)]
            if what == "loss":
                _draw_loss(axes, run, style, marker)
            else:
                marks = {} if what == "learning_rate" else {"marker": marker}
                axes.plot(*_thinned(*run.steps(what)), label=run.name, linewidth=1.2, markersize=4, **marks, **style)
        axes.set(xlabel="step", title="loss, and eval_loss as marks" if what == "loss" and beside else what)
        axes.grid(color="0.9", linewidth=0.5)
    handles, labels = figure.axes[1].get_legend_handles_labels()
    wide = max(1, 110 // (12 + max(map(len, labels))))
    figure.legend(handles, labels, loc="outside upper left", fontsize=8, ncols=wide)
    return saved(figure, path)


def _draw_loss(axes: Any, run: RecordedRun, style: dict[str, Any], marker: str) -> None:
    steps, losses = run.steps("loss")
    if not steps:
        return
    axes.plot(*_thinned(steps, losses), linewidth=0.8, alpha=0.3, **style)
    axes.plot(*_thinned(steps, smoothed(losses)), linewidth=1.4, **style)
    at, measured = run.steps("eval_loss")
    axes.plot(
        at, measured, linestyle="none", marker=marker, markersize=5, color=style["color"], markeredgecolor="white"
    )
    stopped = [entry["step"] for entry in run.entries if "stopped" in entry]
    finite = [loss for loss in losses if math.isfinite(loss)]
    if stopped and finite:
        axes.plot(stopped[-1:], finite[-1:], linestyle="none", marker="x", markersize=9, markeredgewidth=2,
                  color=style["color"])  # fmt: skip


def smoothed(losses: Sequence[float]) -> list[float]:
    """A mean of each loss and those before it, whose weights fall by 1 − a from one to the next; what is not finite is
    passed over.  m_t = (1 − a) m_{t−1} + a ℓ_t, divided by the weights' sum 1 − (1 − a)^t"""
    a = _MEMORY / max(len(losses), _MEMORY)
    mean, weight = 0.0, 0.0
    found = []
    for loss in losses:
        if math.isfinite(loss):
            mean, weight = (1 - a) * mean + a * loss, (1 - a) * weight + a
        found.append(mean / weight if weight else math.nan)
    return found


def _thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[Any, Any]:
    """At most so many points: of each stretch the lowest and the highest, so that a spike stays."""
    x, y = np.asarray(steps), np.asarray(values, dtype=float)
    if len(x) <= _MOST_POINTS:
        return x, y
    kept: list[int] = []
    for part in np.array_split(np.arange(len(x)), _MOST_POINTS // 2):
        own = np.where(np.isfinite(y[part]), y[part], 0.0)
        kept += sorted({int(part[own.argmin()]), int(part[own.argmax()])})
    return x[kept], y[kept]
