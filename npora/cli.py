"""The commands: npora finetune, predict, generate, info, gradcheck, vcurve, taylor."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from npora.commands import finetune, generate, gradcheck, info, predict, taylor, vcurve


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """States every default that there is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """An error is one line."""

    usage_code = 2

    def error(self, message: str) -> NoReturn:
        self.exit(self.usage_code, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0, or 2 after an error, which is one line on standard error (gradcheck has
    codes of its own, and 3 for that)."""
    parser = _Parser(prog="npora", description="LoRA fine-tuning in pure NumPy.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (finetune, predict, generate, info, gradcheck, vcurve, taylor):
        name = command.__name__.rsplit(".", 1)[-1]
        summary = (command.__doc__ or "").splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary, formatter_class=_Help)
        command.add_arguments(sub)
        sub.usage_code = getattr(command, "USAGE", 2)
        sub.set_defaults(run=command.run, parser=sub)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.run(options) or 0
    except (OSError, ValueError, TypeError, ImportError, ArithmeticError, RuntimeError) as error:
        print(f"npora: {' '.join(str(error).split())}", file=sys.stderr)
        return int(options.parser.usage_code)
    except KeyboardInterrupt:
        print("npora: interrupted", file=sys.stderr)
        return 130
