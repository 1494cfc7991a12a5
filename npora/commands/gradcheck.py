"""Check gradients: of npora's layers, or of your own code.

Prints a line for each subject (the whole report where it does not pass). Exits with 0 if all pass, 1 on a wrong
gradient, 2 where a check could not tell or had nothing to tell by, 3 on wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from npora.catalogue import CATALOGUE, VARIATIONS, Drawn, draw
from npora.check import Report, gradcheck
from npora.check.gradcheck import METHODS
from npora.check.oracles.taylor import taylor_test
from npora.check.planted.kinds import KINDS
from npora.check.planted.planting import plantings
from npora.check.verdict.comparison import PRECISIONS, WRONG
from npora.check.verdict.printed import wrapped
from npora.commands.countdown import Countdown
from npora.commands.messages import seed
from npora.files import check_writable
from npora.files.picture import check_picture

USAGE = 3
DEFAULTS = {"method": "auto", "dtype": "float64", "seed": 0, "scale": 1.0, "steps": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="names of --list, 'all', or path/to/file.py:function",
    )
    add("--list", action="store_true", help="name the layers, functions and models, and the kinds of error")
    add("--method", choices=METHODS, default="auto", help="the oracle")
    add("--dtype", choices=tuple(PRECISIONS), default="float64", help="what the backward computes in")
    add("--seed", type=seed, default=0, help="of shapes, values, upstream gradients and directions")
    add("--scale", type=float, default=1.0, help="the size of the drawn inputs or parameters")
    add("--shape", action="append", metavar="4,5", help="of your function's inputs, once for each; (4,5) unless given")
    add("--steps", type=int, default=0, help="steps of Adam to take first")
    add("--blame", action="store_true", help="name the deepest module whose own pullback is wrong")
    add("--verbose", action="store_true", help="print whole names and all digits, however wide that is")
    add("--json", metavar="FILE", help="write the reports there, too")
    add("--plot", metavar="FILE", help="draw the one report, by element (extra `plot`)")
    add("--break", dest="kind", metavar="KIND", help="plant this error first, and show what each oracle sees")
    add("--self-test", action="store_true", help="plant every error in every layer: each must FAIL, and be named")


def run(options: argparse.Namespace) -> int:
    _refuse_idle(options)
    if options.list:
        print("\n".join(CATALOGUE))
        print("\nparts of models and variations, which `all` and --self-test leave out:")
        print("\n".join(f"  {name}" for name in VARIATIONS))
        print("\nkinds of error for --break:")
        print("\n".join(f"  {name:22}{kind.says}" for name, kind in KINDS.items()))
        return 0
    names = list(CATALOGUE) if "all" in options.names or (options.self_test and not options.names) else options.names
    if not names:
        raise ValueError("name what to check: a layer (npora gradcheck --list), all, or path/to/file.py:function")
    if options.plot and len(names) > 1:
        raise ValueError(f"--plot draws one report: name one layer, not {len(names)}")
    if options.plot:
        check_picture(options.plot)
    if options.json:
        check_writable(options.json)
    if options.self_test:
        return self_test(names, options)
    reports: list[Report] = []
    try:
        drawn = {name: subject(name, options) for name in names}
        for name in names:
            if options.kind is not None:
                reports += _planted(name, drawn[name], options)
                continue
            report = _checked(name, drawn[name], options)
            reports.append(report)
            elements, short = sum(row.checked for row in report.rows), report.ok and len(names) > 1
            print(f"{report.verdict:10}  {name}, {elements} elements" if short else report.table(options.verbose))
    except Exception as error:
        if not any(_raised_in(name.rpartition(":")[0], error) for name in names):
            raise
        traceback.print_exc()  # of the user's own code: where is what matters
        return USAGE
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([json.loads(report.to_json()) for report in reports], file, indent=2, ensure_ascii=False)
    if options.plot:
        next((report for report in reports if report.ratios), reports[0]).plot(options.plot)
    return exit_code(reports)


def _refuse_idle(options: argparse.Namespace) -> None:
    """Raise ValueError for an option that would change nothing beside the others."""

    def given(*names: str) -> list[str]:
        defaults = {"names": [], "shape": None, "kind": None, "json": None, "plot": None, **DEFAULTS}
        flags = {"names": "NAME", "kind": "--break", "self_test": "--self-test"}
        asked = [name for name in names if getattr(options, name) != defaults.get(name, False)]
        return [flags.get(name, f"--{name}") for name in asked]

    def refuse(what: str, *names: str) -> None:
        if idle := given(*names):
            raise ValueError(f"{what} takes no {' and no '.join(idle)}")

    checks = "method", "dtype", "steps", "blame", "json", "plot", "verbose"
    if options.list:
        refuse("--list", "names", "kind", "self_test", "seed", "scale", "shape", *checks)
    elif options.self_test:
        refuse("--self-test, which plants every error under gradcheck's defaults,", "kind", "shape", *checks)
    elif not any(":" in name for name in options.names):
        refuse("a layer of the list, whose sizes are drawn (see --seed),", "shape")
    if options.plot and options.method == "dot-product":
        raise ValueError("--method dot-product compares no single elements: there is nothing for --plot to draw")


def _checked(name: str, drawn: Drawn, options: argparse.Namespace) -> Report:
    layer, inputs, keywords = drawn
    return gradcheck(
        layer, *inputs, method=options.method, dtype=options.dtype, seed=options.seed, steps=options.steps,
        blame=options.blame, **keywords,
    )  # fmt: skip


def _raised_in(path: str, error: Exception) -> bool:
    return bool(path) and any(frame.filename.endswith(path) for frame in traceback.extract_tb(error.__traceback__))


def exit_code(reports: list[Report]) -> int:
    verdicts = {report.verdict for report in reports}
    return 1 if verdicts & {*WRONG} else 0 if verdicts == {"PASS"} else 2


def subject(name: str, options: argparse.Namespace) -> Drawn:
    """A layer of the catalogue at drawn sizes, or the user's function with Gaussian inputs."""
    if ":" not in name:
        return draw(name, options.seed, options.scale)
    path, _, attribute = name.rpartition(":")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(os.path.basename(path).removesuffix(".py"), path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ValueError(f"{path} is not Python: line {error.lineno}: {error.msg}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{path} has no function {attribute!r}")
    required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind < 2]
    if not required:  # it makes the subject: (layer, input, …)
        if options.shape or options.scale != 1:
            raise ValueError(f"{attribute} takes no inputs, and makes its own: --shape and --scale are for drawn ones")
        made = function()
        layer, *inputs = made if isinstance(made, tuple) else (made,)
        return layer, tuple(inputs), {}
    shapes = [_shape(text) for text in options.shape or []]
    if len(shapes) > len(required):
        raise ValueError(f"{attribute} takes {len(required)} inputs without a default; got {len(shapes)} of --shape")
    shapes += [(4, 5)] * (len(required) - len(shapes))
    rng = np.random.default_rng(options.seed)
    return function, tuple(options.scale * rng.standard_normal(shape) for shape in shapes), {}


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",") if size)
    except ValueError:
        raise ValueError(f"--shape takes the sizes of one input, as in 4,5; got {text!r}") from None


def _planted(name: str, drawn: Drawn, options: argparse.Namespace) -> list[Report]:
    """What each oracle says of the error, or the one that is asked for."""
    layer, inputs, keywords = drawn
    reports = []
    for target, broken in _one_planting(options.kind, layer, inputs, keywords, name):
        print("\n".join([*wrapped(f"{name}: {KINDS[options.kind].says}, in the gradient of {target}"), ""]))
        for method in METHODS[1:] if options.method == "auto" else (options.method,):
            options_here = argparse.Namespace(**{**vars(options), "method": method})
            report = _checked(name, (broken, inputs, keywords), options_here)
            reports.append(report)
            wrong = [row for row in report.rows if row.verdict not in ("PASS", "VACUOUS")]
            print(f"{method:12} {report.verdict}")
            for row in wrong:
                print("\n".join(wrapped(f"    {row.verdict} {row.name}: {row.note}")))
            if options.verbose:
                print(report.table(verbose=True))
            print("".join(f"    {note}\n" for note in report.notes if note.startswith("blame: ")), end="")
        try:
            result = taylor_test(broken, *inputs, seed=options.seed, **keywords)
            print(f"{'taylor':12} {result.verdict}, centred slope {result.centred_slope:.2f}")
        except ValueError as error:
            print(f"{'taylor':12} {error}")
    return reports


def _one_planting(kind: str, layer: Any, inputs: Any, keywords: Any, name: str) -> Iterator[tuple[str, Any]]:
    found = False
    for planting in plantings(kind, layer, inputs, keywords):
        found = True
        yield planting
        return
    if not found:
        raise ValueError(f"{kind!r} does not apply to any gradient of {name}")


def self_test(names: list[str], options: argparse.Namespace) -> int:
    """Plant each kind once in each subject that it applies to. Prints how many FAIL, and how many are named rightly;
    on standard error, how far it is."""
    planted, failed, named, escaped = Counter[str](), Counter[str](), Counter[str](), []
    progress = Countdown(len(names) * len(KINDS))
    for name in names:
        layer, inputs, keywords = subject(name, options)
        for kind, error in KINDS.items():
            progress.step(name, kind)
            for target, broken in plantings(kind, layer, inputs, keywords):
                report = gradcheck(broken, *inputs, seed=options.seed, **keywords)
                said = " ".join(row.note for row in report.rows if row.verdict in WRONG)
                planted[kind] += 1
                failed[kind] += report.verdict in WRONG
                named[kind] += any(word in said for word in error.words)
                if report.verdict not in WRONG:
                    escaped.append(f"{kind} in {target} of {name}: {report.verdict}")
                break
    if not planted:
        raise ValueError(f"none of the {len(KINDS)} kinds of error applies to {', '.join(names)}: nothing was tested")
    print(f"{'kind of error':22}{'planted':>8}{'FAIL':>8}{'named':>8}")
    for kind in KINDS:
        print(f"{kind:22}{planted[kind]:8}{failed[kind]:8}{named[kind]:8}")
    print(f"{'all':22}{planted.total():8}{failed.total():8}{named.total():8}")
    print("".join(f"ESCAPED {line}\n" for line in escaped), end="")
    return 1 if escaped or 10 * named.total() < 9 * planted.total() else 0
