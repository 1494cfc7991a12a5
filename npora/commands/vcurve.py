"""Print error against step size: forward, central, five-point and Richardson differences, and the complex step."""

from __future__ import annotations

import argparse

from npora.catalogue import draw
from npora.check.oracles.vcurve import v_curve
from npora.check.verdict.plots import curves
from npora.commands.messages import seed
from npora.files.picture import check_picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", default="layer_norm", metavar="NAME", help="a layer (see npora gradcheck --list)")
    add("--seed", type=seed, default=0, help="of shapes and values")
    add("--plot", metavar="FILE", help="draw the curves (extra `plot`)")


def run(options: argparse.Namespace) -> None:
    layer, inputs, keywords = draw(options.name, options.seed)
    if options.plot:
        check_picture(options.plot)
    curve = v_curve(layer, *inputs, seed=options.seed, **keywords)
    print(curve)
    if options.plot:
        title = f"derivatives of {options.name}"
        curves(curve.steps, curve.errors, title, "error, relative to the gradient's norm", options.plot)
