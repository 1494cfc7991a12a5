"""Exact identities that a layer declares: sums of terms that are zero, whatever the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npora.check.inputs import positional_names
from npora.check.outputs import Outputs
from npora.check.subject import Bench, Subject
from npora.check.verdict.comparison import FAIL, PASS, UNRESOLVED, VACUOUS, is_rounding, other_precision, precision_of
from npora.check.verdict.report import Row
from npora.nn import Module
from npora.nn.module import Array


def identities(bench: Bench, gradients: dict[str, Array]) -> dict[str, tuple[float, float]]:
    """(residual, scale) of each identity of the subject and of every module inside it, by name.

    A function or module declares them by an attribute `identities(inputs, gradients)`, which yields (name, terms
    [...,k]): the sums over the last axis are zero. It is called after a backward, so that a module finds its
    parameters' grad; a module inside another finds both arguments empty, for its inputs are not known here. The
    residual is the largest |Σ terms|, the scale the largest Σ |terms|.
    """
    found = {}
    for path, owner in _owners(bench):
        declared = getattr(owner, "identities", None)
        if declared is not None:
            names = {} if path else {name: bench.given(name) for name in bench.subject.places}
            for name, terms in declared(names, {key: gradients[key] for key in names}):
                residual = float(np.abs(terms.sum(axis=-1)).max(initial=0.0))
                scale = float(np.abs(terms).sum(axis=-1).max(initial=0.0))
                found[f"{path}: {name}" if path else name] = residual, scale
    return found


def identity_rows(subject: Subject, dy: Outputs) -> Iterator[Row]:
    """A row for each identity: the residual is compared with slack u times the scale, as well as its terms are known.

    Where it is larger the other precision is asked: rounding in an ill-conditioned place shrinks with u, an error does
    not.
    """
    own = _after_backward(subject, subject.dtype, dy)
    p = precision_of(subject.dtype)
    for name, (residual, scale) in own.items():
        if scale == 0:
            yield Row(name, "identity", VACUOUS, "every term is zero")
        elif residual <= p.slack * p.u * scale:
            yield Row(name, "identity", PASS)
        else:
            note = f"off by {residual / scale:.1e} of its terms"
            again, size = _after_backward(subject, other_precision(subject.dtype), dy).get(name, (np.inf, 1.0))
            rounding = is_rounding(subject.dtype, residual / scale, again / size if size else np.inf)
            yield Row(name, "identity", UNRESOLVED if rounding else FAIL, note)


def _after_backward(subject: Subject, dtype: np.dtype[Any], dy: Outputs) -> dict[str, tuple[float, float]]:
    bench = subject.at(dtype)
    _, backward = bench.forward()
    return identities(bench, bench.gradients(backward, tuple(w.astype(dtype) for w in dy)))


def idle_parameters(bench: Bench) -> dict[str, slice]:
    """The parameters whose gradient is zero by an identity of their layer, as their layers declare it, each with the
    part of its first axis for which that holds."""
    found = {}
    for path, owner in _owners(bench):
        for name, part in getattr(owner, "idle_parameters", dict)().items():
            found[f"{path}.{name}" if path else name] = part
    return found


def _owners(bench: Bench) -> Iterator[tuple[str, object]]:
    labels = list(bench.subject.arguments.labels)
    if bench.subject.is_reference and positional_names(bench.layer)[: len(labels)] != labels:
        return  # an identity is of a layer's own arguments, which the other names otherwise
    if isinstance(bench.layer, Module):
        yield from bench.layer.named_modules()
    else:
        yield "", bench.layer
