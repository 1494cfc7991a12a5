"""A copy of a generator is all that the generator is."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from npora.nn.generator import copied
from tests.corpus.case import Source

MADE = {
    "of a seed": lambda: np.random.default_rng([3, 2**70]),
    "spawned": lambda: np.random.default_rng(5).spawn(2)[1],
    "of the system": lambda: np.random.default_rng(),
    "of another pool": lambda: np.random.Generator(np.random.PCG64(np.random.SeedSequence(1, pool_size=8))),
    "of another kind": lambda: np.random.Generator(np.random.MT19937(4)),
    "of a state without a seed": lambda: np.random.Generator(np.random.PCG64(Unspawned())),
    "of a class of its own": lambda: Source("a name", 1),
}


class Unspawned(np.random.bit_generator.ISeedSequence):  # type: ignore[name-defined, misc]
    def generate_state(self, words: int, dtype: type = np.uint32) -> np.ndarray:
        return np.arange(1, words + 1, dtype=dtype)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_it_draws_and_spawns_the_same_and_leaves_the_first_where_it_is(make) -> None:
    rng = make()
    rng.integers(7, size=3, dtype=np.uint32)  # of a word of 64 bits half is left
    spawns = type(rng) is np.random.Generator and isinstance(rng.bit_generator.seed_seq, np.random.SeedSequence)
    if spawns:
        rng.spawn(2)
    deep, own = copy.deepcopy(rng), copied(rng)
    assert type(own) is type(deep) and own.bit_generator is not rng.bit_generator
    if spawns:
        children = [each.spawn(1)[0].random(4).tolist() for each in (deep, own, rng)]
        assert children[0] == children[1] == children[2]
    drawn = [each.integers(7, size=5, dtype=np.uint32).tolist() for each in (own, deep, rng)]
    assert drawn[0] == drawn[1] == drawn[2]
    assert [each.standard_normal(3).tolist() for each in (own, deep)] == [rng.standard_normal(3).tolist()] * 2


def test_of_nothing_it_is_nothing() -> None:
    assert copied(None) is None
