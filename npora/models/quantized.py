"""A frozen model's matrices, quantised: which of them, and to which forms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from npora.files.gguf_header import is_gguf
from npora.files.refusal import naming
from npora.machine.maps import let_go
from npora.nn import Embedding, Linear, Module, Parameter
from npora.stored import QUANTIZED


def check_quantize(quantize: object, numbers: str) -> None:
    """Raise ValueError for a form that there is not, and beside float64, in which no quantised matrix computes."""
    if quantize is None:
        return
    if quantize not in QUANTIZED:
        raise ValueError(f"quantize must be {' or '.join(map(repr, QUANTIZED))}, or None; got {quantize!r}")
    if numbers == "float64":
        raise ValueError(f"quantize={quantize!r} is for float32, in which what is quantised computes: leave dtype out")


def quantize_for(forms: Collection[str], source: str) -> str | None:
    """What makes of a base the one that an adapter was trained on, whose matrices were in these quantised forms: of a
    GGUF file nothing, whose matrices are in whatever forms it has."""
    return None if is_gguf(source) else next((form for form in forms if form in QUANTIZED), None)


def quantize_model(model: Module, form: str, leaving: Collection[str] = ()) -> None:
    """Quantise matrices of a frozen model where they are. What is a map of a file stays one, for LoftQ to read.

    form : "nf4", for the matrices of the body's linear layers (QLoRA; Dettmers et al., 2023), not a head's, nor the
        embeddings and the projection to the vocabulary; or "int8", whose error is a twentieth, for these two as well
    leaving : names of matrices that are left as they are

    Raises
    ------
    ValueError: no such form; one of these matrices is trained; one has a number that is not finite. It is named, and
    in the first two cases nothing is changed.
    """
    check_quantize(form, "float32")
    every = matrices(model, with_tables=form == "int8")
    chosen = {name: parameter for name, parameter in every.items() if name not in leaving}
    for name, parameter in chosen.items():
        if parameter.requires_grad:
            raise ValueError(f"{name} is trained, and what is quantised cannot be: freeze it first")
    for name, parameter in chosen.items():
        with naming(name):
            quantized: Any = QUANTIZED[form].quantized(parameter.data)
        quantized.original = parameter.data if let_go(parameter.data) else None
        parameter.data = quantized


def matrices(model: Module, with_tables: bool) -> dict[str, Parameter]:
    """The matrices of a model's body that linear layers hold, by name; with its tables, which are the embeddings and
    the projection to the vocabulary, or without. One that is both is a table."""
    body = getattr(model, "body", model)
    head = getattr(model, "output_embeddings", None)
    modules = {**dict(body.named_modules()), **({head: model.get_submodule(head)} if head else {})}
    tables = {id(m.weight) for p, m in modules.items() if p == head or isinstance(m, Embedding)}
    own = {id(m.weight) for m in modules.values() if isinstance(m, Linear)}
    chosen = own | tables if with_tables else own - tables
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in chosen}
