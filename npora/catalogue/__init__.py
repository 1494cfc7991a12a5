"""Everything in npora that has a pullback, a row each: what `npora gradcheck NAME` knows, and what the tests check.

    row.py          a row, and what draws it
    functions.py    functions without parameters, losses among them
    layers.py       layers
    adapters.py     each method of the LoRA family on a layer
    batches.py      what whole models are called with
    bert.py …       a family each: its parts, and the models whole, with LoRA too

Sizes and values are drawn by a seed, so that a row is not one case but as many as there are seeds. Sizes are pairwise
distinct, so that a missing transpose cannot hide; the data has no symmetry.
"""

from __future__ import annotations

from npora.catalogue import (
    adapters,
    bert,
    deberta_v2,
    distilbert,
    electra,
    functions,
    gpt2,
    layers,
    llama,
    llamas_kind,
    modernbert,
    mpnet,
    roberta,
    t5,
    vit,
)
from npora.catalogue.row import Drawn, Row

TABLE: tuple[Row, ...] = tuple(
    row
    for part in (
        functions,
        layers,
        adapters,
        bert,
        roberta,
        electra,
        mpnet,
        deberta_v2,
        modernbert,
        distilbert,
        gpt2,
        llama,
        llamas_kind,
        t5,
        vit,
    )
    for row in part.ROWS
)
_BY_NAME = {row.name: row for row in TABLE}
CATALOGUE = {name: row for name, row in _BY_NAME.items() if row.listed}
VARIATIONS = {name: row for name, row in _BY_NAME.items() if not row.listed}


def draw(name: str, seed: int = 0, scale: float = 1.0) -> Drawn:
    """The layer `name` with inputs and parameters of size `scale`, shapes and values by `seed`.

    Raises
    ------
    ValueError: there is no such name; lists those that there are.
    """
    if name not in _BY_NAME:
        raise ValueError(f"there is no layer {name!r}; there are {', '.join(CATALOGUE)}, and their parts (see --list)")
    return _BY_NAME[name].draw(seed, scale)


__all__ = ["CATALOGUE", "TABLE", "VARIATIONS", "Drawn", "Row", "draw"]
