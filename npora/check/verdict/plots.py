"""Drawings of a report and of experiments, by matplotlib (extra `plot`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from npora.files import check_writable
from npora.nn.module import Array

MOST = 60  # maps in a picture
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")  # told apart by any eye
MARKERS = "osD^vX*"
LINES = ("-", "--", ":", "-.")


def check_picture(path: str | os.PathLike[str]) -> None:
    """To be asked before the work: raises ImportError without matplotlib, ValueError where it does not know the file's
    ending, OSError where no file can be written."""
    known = _figure(1, 1).canvas.get_supported_filetypes()
    ending = os.path.splitext(path)[1].lstrip(".").lower()
    if ending not in known:
        raise ValueError(f"a picture's name ends in one of .{', .'.join(sorted(known))}; got {os.fspath(path)!r}")
    check_writable(path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('drawing needs matplotlib: pip install "npora[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        check_picture(path)
        figure.savefig(path, dpi=120)
    return figure


def spectra(values: Mapping[str, Array], title: str, path: str | os.PathLike[str] | None = None) -> Any:
    """Singular values against their number, a line for each layer."""
    figure = _figure(8.0, 4.5)
    axes = figure.add_subplot()
    for number, (name, sigma) in enumerate(values.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}
        axes.plot(range(1, len(sigma) + 1), sigma, marker=MARKERS[number % len(MARKERS)], label=name, **style)
    axes.set(xlabel="k", ylabel="singular value σₖ of ΔW", title=title)
    if len(values) <= 24:
        axes.legend(fontsize=6)
    return _saved(figure, path)


def heat_maps(ratios: Iterable[tuple[str, Array]], path: str | os.PathLike[str] | None = None) -> Any:
    """One map for each title: log₁₀ of |difference| over tolerance, blue below 0, yellow to red above, where an element
    fails, and black where it is infinite. Each has its own scale, and the worst of many come first. Where only some
    elements were looked at and the others are nan, each is a mark at its place."""
    maps = sorted(ratios, key=lambda item: -float(np.nanmax(item[1])))
    if not maps:
        raise ValueError("this report compared no single elements (method dot-product): there is nothing to draw")
    columns = min(3, len(maps))
    lines = math.ceil(len(maps[:MOST]) / columns)
    figure = _figure(4.5 * columns, 2.4 * lines + 0.6)
    for place, (title, ratio) in enumerate(maps[:MOST], start=1):
        _heat_map(figure, figure.add_subplot(lines, columns, place), title, np.asarray(ratio))
    left = f"; the {MOST} worst of {len(maps)}" if len(maps) > MOST else ""
    figure.suptitle(f"log₁₀ of |analytic − numeric| / tolerance (above 0 fails){left}", fontsize=10)
    return _saved(figure, path)


def _heat_map(figure: Any, axes: Any, title: str, ratio: Array) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize

    flat = ratio.reshape(-1, ratio.shape[-1]) if ratio.ndim > 1 else ratio.reshape(1, -1)
    with np.errstate(divide="ignore"):
        logarithm = np.maximum(np.log10(np.where(np.isfinite(flat), flat, 1)), -6)
    shown = np.ma.array(logarithm, mask=~np.isfinite(flat))
    sampled = np.isnan(flat)
    low = min(float(shown.min()) if shown.count() else 0.0, 0.0)
    high = max(float(shown.max()) if shown.count() else 0.0, 0.0)
    if not shown.count() or (shown > 0).all():
        low = math.floor(shown.min()) if shown.count() else 0.0
    if high - low < 1:
        low, high = low - 0.5, high + 0.5
    # 256 colours from low to high, blue as far as 0, the others beyond.
    values = np.linspace(low, high, 256)
    below, above = values[values <= 0], values[values > 0]
    blues, reds = np.linspace(0.15, 0.85, len(below)), np.linspace(0.25, 1, len(above))
    colours = np.concatenate([colormaps["Blues_r"](blues), colormaps["YlOrRd"](reds)])
    style = {"cmap": ListedColormap(colours).with_extremes(bad="black"), "norm": Normalize(low, high)}
    lines, width = shown.shape
    if sampled.any():
        row, column = np.nonzero(~sampled)
        image = axes.scatter(column, row, c=shown[row, column], plotnonfinite=True, s=4, **style)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(lines - 0.5, -0.5))
    else:
        image = axes.imshow(shown, aspect="auto", **style)
    axes.set_xticks(range(0, width, max(1, width // 6)))
    axes.set_yticks(range(0, lines, max(1, lines // 6)) if ratio.ndim > 1 else [])
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=7)


def curves(
    steps: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    title: str,
    label: str,
    path: str | os.PathLike[str] | None = None,
    slopes: Sequence[int] = (),
) -> Any:
    """Error against step size on logarithmic axes, with reference lines of the given slopes.

    Names of two words, as `central float32`, share a colour and a marker by the first and a kind of line by the last.
    """
    figure = _figure(9, 5)
    axes = figure.add_subplot()
    first, last = [], []
    for name in errors:
        one, _, two = name.rpartition(" ") if " " in name else (name, "", "")
        first += [one] if one not in first else []
        last += [two] if two not in last else []
        values = errors[name]
        kept = [(h, e) for h, e in zip(steps, values, strict=True) if math.isfinite(e) and e > 0]
        if kept:
            style, variant = first.index(one), last.index(two)
            axes.loglog(
                *zip(*kept, strict=True), label=name, color=COLOURS[style % len(COLOURS)], linewidth=1.2, markersize=5,
                marker=MARKERS[style % len(MARKERS)], linestyle=LINES[variant % len(LINES)],
                markerfacecolor="none" if variant else None,
            )  # fmt: skip
    axes.set(xlabel="step h", ylabel=label, title=title)
    axes.grid(color="0.9", linewidth=0.5)
    if not axes.lines:
        axes.text(0.5, 0.5, "zero at every step", ha="center", transform=axes.transAxes)
        return _saved(figure, path)
    bottom, top = axes.get_ylim()
    highest = max(e for values in errors.values() for e in values if math.isfinite(e))
    for number, slope in enumerate(slopes):
        reference = [3 * highest * (h / max(steps)) ** slope for h in steps]
        axes.loglog(
            steps, reference, color="0.55", linewidth=1, linestyle=LINES[1:][number % 3], label=f"slope {slope}"
        )
        seen = [(h, y) for h, y in zip(steps, reference, strict=True) if y > bottom]
        axes.annotate(f"h{'⁰¹²³⁴⁵⁶⁷⁸⁹'[slope]}", seen[-1], color="0.35", fontsize=9, ha="right", va="bottom")
    axes.set_ylim(bottom, max(top, 6 * highest) if slopes else top)
    figure.legend(loc="outside right upper", fontsize=8)
    return _saved(figure, path)
