"""Pictures in files, by matplotlib (extra `plot`)."""

from __future__ import annotations

import os
from typing import Any

from npora.files.writable import check_writable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")  # told apart by any eye
MARKERS = "osD^vX*"
LINES = ("-", "--", ":", "-.")


def check_picture(path: str | os.PathLike[str]) -> None:
    """To be asked before the work: raises ImportError without matplotlib, ValueError where it does not know the file's
    ending, OSError where no file can be written."""
    known = blank(1, 1).canvas.get_supported_filetypes()
    ending = os.path.splitext(path)[1].lstrip(".").lower()
    if ending not in known:
        raise ValueError(f"a picture's name ends in one of .{', .'.join(sorted(known))}; got {os.fspath(path)!r}")
    check_writable(path)


def blank(width: float, height: float) -> Any:
    """matplotlib's figure, of so many inches, with nothing on it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('drawing needs matplotlib: pip install "npora[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """The figure itself, which is in the file too where one is named."""
    if path is not None:
        check_picture(path)
        figure.savefig(path, dpi=120)
    return figure
