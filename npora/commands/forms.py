"""How a model's rows become one vector of a text: the options, and what is noted of it."""

from __future__ import annotations

import argparse
from typing import Any

from npora.models.sentence_transformers import POOLINGS

FORM = ("pooling", "normalize")


def add_form(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pooling", choices=[*POOLINGS], help="embedding: of a text's rows the mean, the first or the last (default: "
        "what modules.json says, else mean)")  # fmt: skip
    add("--normalize", action=argparse.BooleanOptionalAction, help="embedding: bring each vector to length 1 (default: "
        "what modules.json says, else not)")  # fmt: skip


def form_of(model: Any) -> dict[str, Any]:
    """The form of a model of embeddings, as settings; nothing of another."""
    form = getattr(model, "form", None)
    return {} if form is None else {name: getattr(form, name) for name in FORM}


def asked_form(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of the form."""
    given = {name: getattr(options, name, None) for name in FORM}
    return {name: value for name, value in given.items() if value is not None}
