"""Exact identities that a layer declares: sums of terms that are zero, whatever the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npora.check.report import Row
from npora.check.subject import Bench
from npora.check.verdict import FAIL, PASS, VACUOUS, precision_of
from npora.nn import Module
from npora.nn.module import Array


def identities(bench: Bench, gradients: dict[str, Array]) -> Iterator[Row]:
    """A row for each identity of the subject and of every module inside it.

    A function or module declares them by an attribute `identities(inputs, gradients)`, which yields (name, terms
    [...,k]): the sums over the last axis are zero. It is called after a backward, so that a module finds its
    parameters' grad; a module inside another finds both arguments empty, for its inputs are not known here.

    Each sum is compared with slack u times the largest Σ|terms|: that is how well its terms are known.
    """
    p = precision_of(bench.dtype)
    for path, owner in _owners(bench):
        declared = getattr(owner, "identities", None)
        if declared is None:
            continue
        names = {} if path else {name: bench.inputs[place] for name, place in bench.subject.places.items()}
        for name, terms in declared(names, {key: gradients[key] for key in names}):
            label = f"{path}: {name}" if path else name
            residual = float(np.abs(terms.sum(axis=-1)).max(initial=0.0))
            scale = float(np.abs(terms).sum(axis=-1).max(initial=0.0))
            if scale == 0:
                yield Row(label, "identity", VACUOUS, "every term is zero")
            elif residual <= p.slack * p.u * scale:
                yield Row(label, "identity", PASS)
            else:
                yield Row(label, "identity", FAIL, f"off by {residual / scale:.1e} of its terms")


def idle_parameters(bench: Bench) -> set[str]:
    """The parameters whose gradient is zero by an identity of their layer, as their layers declare it."""
    found = set()
    for path, owner in _owners(bench):
        for name in getattr(owner, "idle_parameters", tuple)():
            found.add(f"{path}.{name}" if path else name)
    return found


def _owners(bench: Bench) -> Iterator[tuple[str, object]]:
    if isinstance(bench.layer, Module):
        yield from bench.layer.named_modules()
    else:
        yield "", bench.layer
