"""Print the Taylor test: remainders against step size, and their slopes."""

from __future__ import annotations

import argparse

from npora.catalogue import draw
from npora.check.oracles.taylor import taylor_test
from npora.check.planted.planting import plantings
from npora.check.verdict.plots import curves
from npora.commands.messages import seed
from npora.files.picture import check_picture

USAGE = 3  # 1 and 2 are verdicts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", default="layer_norm", metavar="NAME", help="a layer (see npora gradcheck --list)")
    add("--seed", type=seed, default=0, help="of shapes, values and the direction")
    add("--break", dest="kind", metavar="KIND", help="plant this error first")
    add("--plot", metavar="FILE", help="draw the remainders with their reference slopes (extra `plot`)")


def run(options: argparse.Namespace) -> int:
    layer, inputs, keywords = draw(options.name, options.seed)
    if options.kind is not None:
        found = next(iter(plantings(options.kind, layer, inputs, keywords)), None)
        if found is None:
            raise ValueError(f"{options.kind!r} does not apply to any gradient of {options.name}")
        layer = found[1]
    if options.plot:
        check_picture(options.plot)
    result = taylor_test(layer, *inputs, seed=options.seed, **keywords)
    print(result)
    if options.plot:
        remainders = {"one-sided": result.one_sided, "centred": result.centred}
        curves(result.steps, remainders, f"Taylor test of {options.name}", "remainder", options.plot, slopes=(1, 2, 3))
    return {"PASS": 0, "FAIL": 1}.get(result.verdict, 2)
