"""Drawings of a report and of experiments, by matplotlib (extra `plot`)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npora.nn.module import Array


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('drawing needs matplotlib: pip install "npora[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure


def heat_maps(ratios: Mapping[str, Array], path: str | os.PathLike[str] | None = None) -> Any:
    """One map for each title: log₁₀ of |difference| over tolerance, red above 0, where an element fails."""
    maps = {title: np.atleast_1d(ratio) for title, ratio in ratios.items()}
    if not maps:
        raise ValueError("this report compared no single elements (method dot-product): there is nothing to draw")
    columns = min(3, len(maps))
    figure = _figure(4 * columns, 3 * math.ceil(len(maps) / columns))
    for place, (title, ratio) in enumerate(maps.items(), start=1):
        axes = figure.add_subplot(math.ceil(len(maps) / columns), columns, place)
        flat = ratio.reshape(-1, ratio.shape[-1]) if ratio.ndim > 1 else ratio[None]
        with np.errstate(divide="ignore"):
            logarithm = np.clip(np.log10(np.nan_to_num(flat, posinf=1e300)), -4, 4)
        image = axes.imshow(logarithm, cmap="coolwarm", vmin=-4, vmax=4, aspect="auto")
        axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=figure.axes, label="log₁₀ |difference| / tolerance")
    return _saved(figure, path)


def curves(
    steps: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    title: str,
    label: str,
    path: str | os.PathLike[str] | None = None,
    slopes: Sequence[int] = (),
) -> Any:
    """Error against step size on logarithmic axes, with reference lines of the given slopes."""
    figure = _figure(6, 4.5)
    axes = figure.add_subplot()
    for name, values in errors.items():
        kept = [(h, e) for h, e in zip(steps, values, strict=True) if math.isfinite(e) and e > 0]
        if kept:
            axes.loglog(*zip(*kept, strict=True), marker="o", markersize=3, label=name)
    top = max((e for values in errors.values() for e in values if math.isfinite(e)), default=1.0)
    for slope in slopes:
        axes.loglog(
            steps, [top * (h / max(steps)) ** slope for h in steps], "k:", linewidth=0.8, label=f"slope {slope}"
        )
    axes.set(xlabel="step h", ylabel=label, title=title)
    axes.legend(fontsize=8)
    return _saved(figure, path)
