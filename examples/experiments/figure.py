"""The figure at the end of an experiment: in characters, or a picture where one is asked for.

`--plot FILE` writes a picture (.png, .svg, .pdf; the extra `plot`), and in a notebook that has matplotlib it appears
there. Without either the same points are printed, a letter for each curve.
"""

import argparse
import io
import math
import sys

from npora.files.picture import COLOURS, LINES, MARKERS, blank, check_picture, saved

WIDTH, HEIGHT = 66, 16  # characters of a printed figure
IN_NOTEBOOK = "ipykernel" in sys.modules


def options(what, files=None, **numbers):
    """The arguments of an experiment: --plot, a number for each of `numbers`, and files where `files` says which."""
    parser = argparse.ArgumentParser(description=what)
    if files:
        parser.add_argument("files", nargs="*", metavar="FILE", help=files)
    parser.add_argument("--plot", metavar="FILE", help="write the figure as a picture (extra `plot`)")
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{number} unless given")
    found = parser.parse_args([] if IN_NOTEBOOK else None)  # a notebook's command line is its own
    if found.plot:
        try:
            check_picture(found.plot)
        except (ImportError, ValueError, OSError) as error:
            sys.exit(f"--plot: {error}")
    return found


def show(title, curves, x, y, log="", line=True, plot=None):
    """Show curves, {name: points (x, y)}, with the names of both axes; log : "x", "y" or "xy", which are logarithmic.

    line : whether points are joined. What is not finite is left out, and what is not above zero on a logarithmic axis.
    """
    kept = {name: [point for point in points if _fits(point, log)] for name, points in curves.items()}
    if plot or IN_NOTEBOOK:
        try:
            picture = _drawn(title, kept, x, y, log, line)
        except ImportError:  # a notebook without matplotlib
            picture = None
        if plot:
            saved(picture, plot)
            print(f"the figure is in {plot}")
            return
        if picture is not None:
            from IPython.display import Image, display

            bits = io.BytesIO()
            picture.savefig(bits, format="png")
            display(Image(bits.getvalue()))
            return
    print("\n".join(_printed(title, kept, x, y, log)))


def _fits(point, log):
    return all(math.isfinite(value) and (axis not in log or value > 0) for axis, value in zip("xy", point, strict=True))


def _drawn(title, curves, x, y, log, line):
    figure = blank(8, 5)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(curves.items()):
        axes.plot(
            *(zip(*points, strict=True) if points else ([], [])), label=name, markersize=6, linewidth=1.3,
            linestyle=LINES[number // len(COLOURS) % len(LINES)] if line else "",
            color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
        )  # fmt: skip
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(color="0.9", linewidth=0.5)
    if len(curves) > 1:
        figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _printed(title, curves, x, y, log):
    """The lines of a figure of characters. Where several curves have a point in one place, a * stands there."""
    scales = [math.log10 if axis in log else float for axis in "xy"]
    scaled = {
        name: [[scale(value) for scale, value in zip(scales, point, strict=True)] for point in points]
        for name, points in curves.items()
    }
    every = [point for points in scaled.values() for point in points]
    if not every:
        return [title, "  (no point is above zero and finite)"]
    ends = [(min(values), max(values)) for values in zip(*every, strict=True)]
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for letter, points in zip("abcdefghijklmnopqrstuvwxyz", scaled.values(), strict=False):
        for across, up in points:
            column, row = (
                round((value - low) / (high - low or 1) * (size - 1))
                for value, (low, high), size in zip((across, up), ends, (WIDTH, HEIGHT), strict=True)
            )
            line = grid[HEIGHT - 1 - row]
            line[column] = letter if line[column] in (" ", letter) else "*"
    numbers = [
        [f"{10**end if axis in log else end:.3g}" for end in pair] for axis, pair in zip("xy", ends, strict=True)
    ]
    margin = max(map(len, numbers[1]))
    sides = [numbers[1][1], *[""] * (HEIGHT - 2), numbers[1][0]]
    low, high = numbers[0]
    return [
        "", title, f"{y}{' (logarithmic)' if 'y' in log else ''}",
        *(f"{side:>{margin}} |{''.join(line)}".rstrip() for side, line in zip(sides, grid, strict=True)),
        f"{'':{margin}} +{'-' * WIDTH}", f"{'':{margin}}  {low}{high:>{WIDTH - len(low)}}",
        f"{'':{margin}}  {x + (' (logarithmic)' if 'x' in log else ''):^{WIDTH}}".rstrip(),
        *(f"  {letter}  {name}" for letter, name in zip("abcdefghijklmnopqrstuvwxyz", curves, strict=False)),
    ]  # fmt: skip
