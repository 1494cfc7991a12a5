"""The commands: npora finetune, evaluate, predict, embed, generate, chat, merge, export, check-data, show-data,
inspect, plot, compare, info; gradcheck, vcurve, taylor, exercise, study."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import numpy as np

import npora
from npora.commands import (
    chat,
    check_data,
    compare,
    embed,
    evaluate,
    export,
    finetune,
    generate,
    info,
    inspect,
    merge,
    plot,
    predict,
    show_data,
)
from npora.commands.messages import say
from npora.train.interruption import Interrupted, Terminated

_WITHOUT_CHECKS = {
    "finetune": finetune, "evaluate": evaluate, "predict": predict, "embed": embed, "generate": generate, "chat": chat,
    "merge": merge, "export": export, "check-data": check_data, "show-data": show_data, "inspect": inspect,
    "plot": plot, "compare": compare, "info": info,
}  # fmt: skip


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """States every default that there is, and leaves paragraphs apart."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.nargs == 0 else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Help, self)._fill_text(part, width, indent) for part in text.split("\n\n"))


class _Parser(argparse.ArgumentParser):
    """An error is one line."""

    usage_code = 2

    def error(self, message: str) -> NoReturn:
        self.exit(self.usage_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0, or 2 after an error, which is one line on standard error (gradcheck has
    codes of its own, and 3 for that); 141 where the reader of the output has gone, as `head` does; 130 after Ctrl-C,
    and 143 or 129 after a SIGTERM or SIGHUP that a training has heard."""
    try:
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more()
        return 141  # what a shell reports of a program that SIGPIPE ends


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    try:
        code = options.run(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is an error too
        return int(code)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, TypeError, ImportError, ArithmeticError, RuntimeError) as error:
        said = str(error)
        if isinstance(error, OSError) and isinstance(error.filename, str) and error.filename2 is None:
            said = f"{error.filename}: {error.strerror}"  # without the number
        say(f"npora: {' '.join(said.split())}")
        return int(options.parser.usage_code)
    except KeyboardInterrupt as stop:
        if not isinstance(stop, Interrupted):  # which has been told of
            say("npora: interrupted")
        return 130
    except Terminated as stop:
        return int(str(stop.code))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command, among them `given`: the names of those that stand in the arguments themselves."""
    parser = _Parser(prog="npora", description="LoRA fine-tuning in pure NumPy.")
    version = f"npora {npora.__version__} (Python {platform.python_version()}, NumPy {np.__version__})"
    parser.add_argument("--version", action="version", version=version)
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in commands_for(arguments).items():
        text = command.__doc__ or ""
        summary = text.splitlines()[0]
        sub = subparsers.add_parser(name, help=summary, description=text, formatter_class=_Help)
        command.add_arguments(sub)
        sub.usage_code = getattr(command, "USAGE", 2)
        sub.set_defaults(run=command.run, parser=sub)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    names = set(vars(options)) - {"run", "parser"}
    options.parser.set_defaults(**dict.fromkeys(names))
    again = parser.parse_args(arguments)  # without defaults
    options.arguments = list(arguments)
    options.given = {name for name in names if getattr(again, name) is not None}
    return options


def commands_for(arguments: Sequence[str]) -> dict[str, ModuleType]:
    """Return the commands by name, without those that check gradients where another one is asked for: it need not wait
    for npora.check to be imported."""
    if arguments and arguments[0] in _WITHOUT_CHECKS:
        return _WITHOUT_CHECKS
    from npora.commands import exercise, gradcheck, study, taylor, vcurve

    checks = {"gradcheck": gradcheck, "vcurve": vcurve, "taylor": taylor, "exercise": exercise, "study": study}
    return {**_WITHOUT_CHECKS, **checks}


def _say_no_more() -> None:
    """What is still to be written goes nowhere: Python would report the broken pipe once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
