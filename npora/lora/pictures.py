"""What an adapter changes, drawn."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from npora.files.picture import COLOURS, LINES, MARKERS, blank, saved
from npora.nn.module import Array


def spectra(values: Mapping[str, Array], title: str, path: str | os.PathLike[str] | None = None) -> Any:
    """Singular values against their number, a line for each layer."""
    figure = blank(8.0, 4.5)
    axes = figure.add_subplot()
    for number, (name, sigma) in enumerate(values.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}
        axes.plot(range(1, len(sigma) + 1), sigma, marker=MARKERS[number % len(MARKERS)], label=name, **style)
    axes.set(xlabel="k", ylabel="singular value σₖ of ΔW", title=title)
    if len(values) <= 24:
        axes.legend(fontsize=6)
    return saved(figure, path)
