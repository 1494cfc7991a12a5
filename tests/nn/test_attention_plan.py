"""What a plan of attention costs: the scores that are computed, and the masks that are made."""

from __future__ import annotations

import numpy as np
import pytest

from npora.nn import Packing
from npora.nn import functional as F
from npora.nn.attention_plan import Heads, plan, shared_plan
from npora.nn.cache import LayerCache
from npora.nn.rules import Rule, causal, everything, window

HEADS = Heads(3, 2, 8)


def scores(packing: Packing, rule: Rule, at_once: int = 1 << 18) -> int:
    """Of one head, all that the plan's blocks compute, padding's too."""
    return sum(
        piece.queries.batch * (block.queries.stop - block.queries.start) * (block.keys.stop - block.keys.start)
        for piece in plan(packing, packing, rule, HEADS, at_once)
        if piece.groups.start == 0
        for block in piece.blocks
    )


def test_a_lone_query_sees_its_keys_without_a_mask() -> None:
    for keys in (Packing.dense(3, 9), Packing.spaced([9, 4, 9], 12)):
        for rule, seen in ((causal, keys.lengths), (window(5), np.minimum(keys.lengths, 5))):
            pieces = list(plan(Packing.dense(3, 1), keys, rule, HEADS))
            assert all(len(piece.blocks) == 1 and piece.blocks[0].mask() is None for piece in pieces)
            for piece in pieces:
                assert (seen[piece.sequences] == piece.blocks[0].keys.stop - piece.blocks[0].keys.start).all()


def test_layers_with_caches_alike_share_their_packing_and_plan() -> None:
    new = Packing.dense(2, 3)
    rows = np.ones((6, 4))
    first, second = (LayerCache().append(rows, rows, new)[2] for _ in range(2))
    assert first is second and shared_plan(new, first, causal, HEADS) is shared_plan(new, second, causal, HEADS)
    cache = LayerCache()
    cache.append(rows, rows, new)
    assert cache.append(rows, rows, new)[2].lengths.tolist() == [6, 6]


def test_sequences_that_are_alike_are_one_piece_also_where_they_lie_apart() -> None:
    for keys in (Packing.dense(4, 9), Packing.spaced([9] * 4, 12)):
        (piece,) = plan(Packing.dense(4, 1), keys, causal, HEADS)
        assert piece.queries.real is None and piece.keys.real is None
    (piece,) = plan(Packing.dense(4, 9), Packing.dense(4, 9), causal, HEADS)
    mask = piece.blocks[0].mask()
    assert mask is not None and mask.shape == (1, 1, 1, 9, 9)


@pytest.mark.parametrize("at_once", [1 << 12, 1 << 15, 1 << 18])
def test_causal_blocks_leave_out_most_of_what_no_query_sees_and_windows_of_what_is_far(at_once: int) -> None:
    t = 512
    packing = Packing.of_lengths([t])
    assert scores(packing, everything, at_once) == t * t
    assert scores(packing, causal, at_once) <= t * t * 5 / 8
    assert scores(packing, window(64), at_once) <= t * (64 + 32)


def test_padding_is_computed_only_where_it_is_little() -> None:
    even, uneven = Packing.of_lengths([9, 8, 10, 9] * 6), Packing.of_lengths([400, 3] * 6)
    assert len(list(plan(even, even, everything, HEADS))) == 1
    assert scores(uneven, everything) == (uneven.lengths**2).sum()


def test_a_lone_sequence_may_lie_among_rows_of_nobody() -> None:
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.standard_normal((5, 6)) for _ in range(4))
    packing, own = Packing(np.array([1]), np.array([3]), 5), slice(1, 4)
    y, backward = F.packed_attention(q, k, v, 2, packing)
    expected, back_alone = F.packed_attention(q[own], k[own], v[own], 2, Packing.dense(1, 3))
    assert y[own].tobytes() == expected.tobytes() and not y[[0, 4]].any()
    for found, right in zip(backward(dy)[:3], back_alone(dy[own])[:3], strict=True):
        assert found[own].tobytes() == right.tobytes() and not found[[0, 4]].any()


@pytest.mark.parametrize(
    "rule", [lambda place: (place, 9), lambda place: (place // 2, 9), lambda place: (0, 4 - place), causal, window(2)]
)
def test_a_rule_may_begin_or_end_anywhere(rule: Rule) -> None:
    rng = np.random.default_rng(1)
    q, k, v, dy = (rng.standard_normal((4, 6)) for _ in range(4))
    places = np.arange(4)
    first, stop = (np.broadcast_to(edge, 4)[:, None] for edge in rule(places))
    mask = (first <= places) & (places < stop)
    y, backward = F.packed_attention(q, k, v, 1, Packing.dense(1, 4), rule=rule)
    expected, back_dense = F.attention(q, k, v, mask=mask)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    for found, right in zip(backward(dy)[:3], back_dense(dy)[:3], strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("at_once", [1, 60, 500, 1 << 18])
@pytest.mark.parametrize("rule", [everything, causal, window(2), window(3), lambda t: (t - 2, t + 2)])
def test_each_query_of_each_key_head_is_asked_once_and_sees_what_its_rule_says(rule: Rule, at_once: int) -> None:
    for packing in (
        Packing.of_lengths([5, 1, 3]),
        Packing.dense(3, 4),
        Packing.of_lengths([70, 2]),
        Packing.spaced([3, 3], 5),
    ):
        found: dict[tuple[int, int], list[int]] = {}
        numbers = np.arange(packing.rows) + 1  # 0 is padding
        for piece in plan(packing, packing, rule, Heads(5, 2, 3), at_once):
            queries, keys = piece.queries.spread(numbers), piece.keys.spread(numbers)
            for block in piece.blocks:
                rows, mask = queries[:, block.queries], block.mask()
                s = keys[:, block.keys]
                sees = np.ones((*rows.shape, s.shape[1]), bool) if mask is None else mask[:, 0, 0]
                sees = np.broadcast_to(sees, (*rows.shape, s.shape[1]))
                for b, t in zip(*np.nonzero(rows), strict=True):
                    for group in range(piece.groups.start, piece.groups.stop):
                        assert (rows[b, t], group) not in found
                        found[rows[b, t], group] = s[b][sees[b, t]].tolist()
        expected = {}
        for start, length in zip(packing.starts.tolist(), packing.lengths.tolist(), strict=True):
            for t in range(length):
                first, stop = (int(x) for x in rule(np.asarray(t)))
                seen = list(range(start + max(first, 0) + 1, start + min(stop, length) + 1))
                expected |= {(start + t + 1, group): seen for group in range(5)}
        assert found == expected
