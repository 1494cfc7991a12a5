"""What was measured, as a table and as a plot, and on what machine."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """For argparse: names with commas between them, all of which are known."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(map(repr, unknown))} among {', '.join(known)}")
        return names

    return read


def check_outputs(options: argparse.Namespace) -> None:
    """Exit before the work where its results could not be written. Imports nothing: the parent stays small."""
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    for path in filter(None, (options.json, options.plot)):
        existed = os.path.lexists(path)
        try:
            with open(path, "ab"):
                pass
        except OSError as error:
            sys.exit(str(error))
        if not existed:
            os.unlink(path)


PACKAGES = ("numpy", "torch", "transformers", "peft", "jax")


def environment() -> dict[str, str]:
    """The machine and the versions."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload]
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()} {platform.release()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *filter(None, map(_version, PACKAGES))]),
        "NumPy's BLAS": f"{blas['name']} {blas['version']}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def seconds(side: dict[str, Any]) -> list[float]:
    """The median step of each run."""
    return [median(run["seconds"]) for run in side["runs"]]


def peak(side: dict[str, Any]) -> list[float]:
    return [run["bytes"] / 1e6 for run in side["runs"]]


def ratios(
    one: dict[str, Any], other: dict[str, Any], what: Callable[[dict[str, Any]], list[float]] = seconds
) -> list[float]:
    """one ÷ other, round by round."""
    return [a / b for a, b in zip(what(one), what(other), strict=False)]


def table(result: dict[str, Any]) -> str:
    """One workload: a line for each side.

    s: the median of the rounds, each the median of its steps. Shares are medians of the rounds' ratios. In brackets the
    smallest and the largest round.
    """
    title = f"\n({result['name']}) {result['title']}"
    if "failed" in result:
        return f"{title}\n    left out: {result['failed']}"
    sides = result["sides"]
    heads = ("s", "npora ÷ it", "floor ÷ it", "peak MB", "npora ÷ it", "tokens/s", "loss", "differs by")
    widths = (26, 19, 19, 9, 12, 10, 9, 12)
    lines = [title, f"{'':16}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for name, side in sides.items():
        if not side["runs"]:
            lines.append(f"{name:16}    left out: {side['failed']}")
            continue
        cells = _cells(name, side, sides)
        lines.append(f"{name:16}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return "\n".join(lines)


def _cells(name: str, side: dict[str, Any], sides: dict[str, dict[str, Any]]) -> list[str]:
    npora, floor = sides.get("npora", {"runs": []}), sides.get("floor", {"runs": []})
    run = side["runs"][-1]
    is_peer = name not in ("npora", "floor")
    return [
        spread(seconds(side), "{:.3g}"),
        spread(ratios(npora, side)) if is_peer else "",
        spread(ratios(floor, side)) if name != "floor" else "",
        f"{median(peak(side)):.0f}" if name != "floor" else "",
        f"{median(ratios(npora, side, peak)):.2f}" if is_peer and npora["runs"] else "",
        f"{run['tokens'] / median(seconds(side)):.0f}" if name != "floor" and run["tokens"] else "",
        "" if run["loss"] is None else f"{run['loss']:.4f}",
        f"{side['differs']:.0e}" if "differs" in side else "",
    ]


def spread(values: Sequence[float], style: str = "{:.2f}") -> str:
    """median (smallest–largest)"""
    if not values:
        return ""
    return f"{style} ({style}–{style})".format(median(values), min(values), max(values))


def plot(results: dict[str, Any], path: str) -> None:
    """For each workload npora's time and memory as shares of each peer's, and the floor's share of npora's time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = [result for result in results["workloads"] if "sides" in result]
    bars = ["PEFT", "compiled PEFT", "JAX"]
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.6 * len(measured) + 1.6), sharey=True, layout="constrained")
    for axis, what, title in zip(axes, (seconds, peak), ("time", "peak memory"), strict=True):
        for offset, peer in enumerate(bars):
            for row, result in enumerate(measured):
                sides = result["sides"]
                if sides.get(peer, {}).get("runs"):
                    share = ratios(sides["npora"], sides[peer], what)
                    place, color = row + 0.25 * (offset - 1), f"C{offset}"
                    axis.barh(place, median(share), 0.23, color=color, label=peer if row == 0 else None)
                    axis.plot([min(share), max(share)], [place, place], color="black", lw=1)
        axis.axvline(1, color="gray", lw=0.8)
        axis.set_title(f"npora's {title} ÷ the peer's")
    for row, result in enumerate(measured):
        floor = result["sides"].get("floor")
        if floor and floor["runs"]:
            share = median(ratios(floor, result["sides"]["npora"]))
            axes[0].annotate(f"floor {share:.2f}", (0.01, row + 0.45), fontsize=7, color="gray")
    axes[0].set_yticks(range(len(measured)), [result["name"] for result in measured])
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8)
    figure.suptitle(results["machine"], fontsize=9)
    figure.savefig(path)
    plt.close(figure)
