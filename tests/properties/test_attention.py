"""What attention, softmax and the losses guarantee whatever their numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npora import set_num_threads
from npora.nn import Linear, MultiHeadAttention, Packing, Padding, projected_cross_entropy
from npora.nn import functional as F
from tests.properties.strategies import normal, seeds, whole

U = 2.0**-53
lengths = st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any)


def attention(seed: int, causal: bool = False, kdim: int | None = None) -> MultiHeadAttention:
    layer = MultiHeadAttention(6, 2, kdim=kdim, causal=causal, dtype=np.float64)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = normal(seed + number, *parameter.shape)
    return layer


@given(st.integers(2, 6), st.integers(1, 5), seeds)
def test_a_causal_output_and_its_gradient_do_not_see_the_future(t: int, cut: int, seed: int) -> None:
    cut = min(cut, t - 1)
    layer, x = attention(seed, causal=True), normal(seed + 50, 1, t, 6)
    other = x.copy()
    other[:, cut:] = normal(seed + 51, 1, t - cut, 6)
    (y, backward), (changed, _) = layer(x), layer(other)
    assert (y[:, :cut] == changed[:, :cut]).all() and not (y[:, cut:] == changed[:, cut:]).any()
    dy = normal(seed + 52, 1, t, 6)
    dy[:, cut:] = 0
    assert not backward(dy)[:, cut:].any()


@given(lengths, seeds, st.booleans())
def test_packed_rows_equal_a_padded_batch_and_padding_gets_no_gradient(t: list[int], seed: int, causal: bool) -> None:
    padding, layer = Padding(np.arange(max(t)) < np.array(t)[:, None]), attention(seed, causal)
    x = normal(seed + 50, *padding.mask.shape, 6)  # numbers in the padding too
    dense, back_dense = layer(x, key_mask=padding.mask)
    packed, back_packed = layer(padding.pack(x), packing=padding.packing)
    # Blocks of other shapes are summed in another order: some hundred roundings of numbers up to about 100.
    np.testing.assert_allclose(padding.pack(dense), packed, rtol=0, atol=1e-11)
    dy = normal(seed + 51, *padding.mask.shape, 6) * padding.mask[..., None]
    dx = back_dense(dy)
    np.testing.assert_allclose(padding.pack(dx), back_packed(padding.pack(dy)), rtol=0, atol=1e-9)
    assert not dx[~padding.mask].any()


_size = st.tuples(st.integers(0, 4), st.integers(0, 6))  # queries and keys of a sequence
_RULES = {"everything": F.everything, "causal": F.causal, "window 1": F.window(1), "window 3": F.window(3)}


def visible(rule: str, t: int, s: int) -> np.ndarray:
    """bool [t,s], by the definition of each rule, where the queries are the last t of s places."""
    place, key = np.arange(s - t, s)[:, None], np.arange(s)
    width = {"everything": None, "causal": s + t, "window 1": 1, "window 3": 3}[rule]
    return np.ones((t, s), bool) if width is None else (key <= place) & (key > place - width)


def laid(lengths: list[int], every: int) -> tuple[Packing, np.ndarray]:
    """Sequences right behind each other, or so many rows apart, and a mask of the rows that are somebody's."""
    packing = Packing.spaced(lengths, every) if every else Packing.of_lengths(lengths)
    own = np.zeros(packing.rows, dtype=bool)
    own[packing.rows_of(np.arange(len(lengths)))] = True
    return packing, own


@given(
    st.lists(_size, min_size=1, max_size=5) | st.builds(lambda size, n: [size] * n, _size, st.integers(2, 5)),
    st.tuples(st.sampled_from([0, 0, 4, 7]), st.sampled_from([0, 0, 6, 8])),
    st.sampled_from(sorted(_RULES)),
    st.sampled_from(["", "shared", "of each", "of a key"]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 5, 13, 40, 150, 1000, 1 << 18]),
    seeds,
)
@example([(2, 3)] * 3, (0, 0), "everything", "of each", 2, 5, 0)
@example([(2, 3)] * 3, (0, 0), "causal", "of each", 1, 13, 0)
@example([(3, 0)] * 4, (0, 0), "causal", "shared", 2, 40, 0)  # no key, and yet several blocks of queries
@example([(4, 4), (3, 3), (4, 4)], (0, 0), "causal", "", 2, 1 << 18, 0)  # padded
@example([(1, 6), (1, 4)], (0, 8), "causal", "", 4, 1 << 18, 0)  # generation, from a cache with rows to spare
@example([(1, 5), (1, 5)], (0, 6), "window 3", "of a key", 4, 1 << 18, 0)
@example([(97, 97), (90, 97)], (0, 0), "window 3", "", 1, 1 << 18, 0)  # a block of a window sees few of the keys
@example([(130, 131)], (0, 0), "causal", "shared", 1, 1 << 18, 0)
def test_attention_in_pieces_is_that_of_each_sequence_and_head(
    sizes: list[tuple[int, int]], every: tuple[int, int], rule: str, kind: str, groups: int, scores_at_once: int,
    seed: int,
) -> None:  # fmt: skip
    (queries, own), (keys, own_keys) = (
        laid(list(lengths), apart) for lengths, apart in zip(zip(*sizes, strict=True), every, strict=True)
    )
    heads, d, e, (t, s) = 4, 1, 2, (queries.lengths.max(), keys.lengths.max())  # d so narrow that scores are recomputed
    q, k, v, dy = (normal(seed + i, *shape) for i, shape in enumerate([
        (queries.rows, heads, d), (keys.rows, groups, d), (keys.rows, groups, e), (queries.rows, heads, e)
    ]))  # fmt: skip
    for x, mine in ((q, own), (k, own_keys), (v, own_keys), (dy, own)):
        x[~mine] = np.nan  # nobody's rows are not read
    shape = {"shared": (1, heads, t, s), "of each": (len(sizes), heads, t, s), "of a key": (len(sizes), 1, 1, s)}
    bias = normal(seed + 4, *shape[kind]) if kind else None
    y, backward = F.packed_attention(
        *(x.reshape(len(x), x.shape[1] * x.shape[2]) for x in (q, k, v)), heads, queries, keys,
        _RULES[rule], bias=bias, scale=1.3, scores_at_once=scores_at_once,
    )  # fmt: skip
    whole = np.zeros((len(sizes), heads, t, s)) if bias is None else np.broadcast_to(bias, (len(sizes), heads, t, s))
    plain, dwhole = np.zeros(dy.shape), np.zeros(whole.shape)
    gradients = [np.zeros(x.shape) for x in (q, k, v)]
    places = zip(queries.starts, queries.lengths, keys.starts, keys.lengths, strict=True)
    for number, (first, t, begin, s) in enumerate(places):
        for head in range(heads):
            of_q, of_k = (slice(first, first + t), head), (slice(begin, begin + s), head * groups // heads)
            corner = (number, head, slice(t), slice(s))
            plain[of_q], back = F.attention(
                q[of_q], k[of_k], v[of_k], bias=whole[corner], mask=visible(rule, t, s), scale=1.3
            )
            parts = zip((*gradients, dwhole), (of_q, of_k, of_k, corner), back(dy[of_q]), strict=True)
            for gradient, place, part in parts:
                gradient[place] += part
    np.testing.assert_allclose(y, plain.reshape(y.shape), rtol=0, atol=1e-12)
    *found, dbias = backward(dy.reshape(y.shape))
    for found_gradient, gradient in zip(found, gradients, strict=True):
        np.testing.assert_allclose(found_gradient, gradient.reshape(found_gradient.shape), rtol=0, atol=1e-11)
    if bias is None:
        assert dbias is None
    else:
        axes = tuple(axis for axis, size in enumerate(bias.shape) if size != dwhole.shape[axis])
        np.testing.assert_allclose(dbias, dwhole.sum(axis=axes, keepdims=True), rtol=0, atol=1e-11)


def test_rows_of_nobody_between_the_sequences_are_not_read() -> None:
    queries, keys, own = Packing.of_lengths([2, 1]), Packing.spaced([2, 3], 4), [0, 1, 4, 5, 6]
    q, k, v = normal(0, 3, 4), normal(1, 8, 4), normal(2, 8, 6)
    y, _ = F.packed_attention(q, k, v, 2, queries, keys)
    without, _ = F.packed_attention(q, k[own], v[own], 2, queries, Packing.of_lengths([2, 3]))
    np.testing.assert_allclose(y, without, rtol=0, atol=1e-14)
    equal = Packing(np.array([0, 4]), np.array([2, 2]), 6)  # equally long, and behind the last there is no row to spare
    y, _ = F.packed_attention(q, k[:6], v[:6], 2, queries, equal)
    without, _ = F.packed_attention(q, k[[0, 1, 4, 5]], v[[0, 1, 4, 5]], 2, queries, Packing.dense(2, 2))
    np.testing.assert_allclose(y, without, rtol=0, atol=1e-14)


@pytest.fixture
def threads_given_back() -> Iterator[None]:
    yield
    set_num_threads(None)


def test_any_number_of_threads_gives_the_same_bits(threads_given_back: None) -> None:
    found, packing = [], Packing.of_lengths([40, 9, 3, 12, 12, 1, 70, 66])
    q, k, dy = (normal(seed, packing.rows, width).astype(np.float32) for seed, width in enumerate((24, 12, 24)))
    for threads in (1, 2, 3):
        set_num_threads(threads)
        y, backward = F.packed_attention(
            q, k, k, 6, packing, rule=F.window(50), bias=normal(3, 1, 6, 70, 70).astype(np.float32), dropout_p=0.1,
            rng=np.random.default_rng(0), scores_at_once=4000,
        )  # fmt: skip
        found.append(b"".join(x.tobytes() for x in (y, *backward(dy))))
    assert found[0] == found[1] == found[2]


def test_attention_says_which_of_its_sizes_do_not_agree() -> None:
    q, k, two, one = normal(0, 3, 6), normal(1, 4, 6), Packing.of_lengths([2, 1]), Packing.of_lengths([4])
    with pytest.raises(ValueError, match="2 sequences of queries meet 1 sequences of keys"):
        F.packed_attention(q, k, k, 2, two, one)
    with pytest.raises(ValueError, match="v has 3 rows, and its packing 4"):
        F.packed_attention(q[:2], k, q, 2, Packing.of_lengths([2]), one)
    with pytest.raises(ValueError, match="q is 6 wide, k 4 and v 6: expected 3 heads in q"):
        F.packed_attention(q, q[:, :4], q, 3, two)
    with pytest.raises(ValueError, match="at least 1 key wide; got 0"):
        F.window(0)


@given(lengths, seeds)
def test_a_sequence_does_not_see_the_others(t: list[int], seed: int) -> None:
    packing, layer = Packing.of_lengths(t), attention(seed)
    x = normal(seed + 50, packing.rows, 6)
    together = layer(x, packing=packing)[0]
    for start, length in zip(packing.starts, packing.lengths, strict=True):
        rows = slice(start, start + length)
        alone = layer(x[rows], packing=Packing.of_lengths([length]))[0]
        np.testing.assert_allclose(together[rows], alone, rtol=0, atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 5), seeds)
def test_keys_in_another_order_change_nothing(t: int, s: int, seed: int) -> None:
    layer, order = attention(seed, kdim=3), np.random.default_rng(seed).permutation(s)
    x, memory, dy = normal(seed + 50, 1, t, 6), normal(seed + 51, 1, s, 3), normal(seed + 52, 1, t, 6)
    (y, backward), (permuted, back_permuted) = layer(x, memory), layer(x, memory[:, order])
    np.testing.assert_allclose(permuted, y, rtol=0, atol=1e-12)
    (dx, dmemory), (dx_permuted, dmemory_permuted) = backward(dy), back_permuted(dy)
    np.testing.assert_allclose(dx_permuted, dx, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dmemory_permuted, dmemory[:, order], rtol=0, atol=1e-10)


@given(st.integers(1, 4), st.integers(1, 4), seeds)
def test_a_query_without_a_key_gives_zeros_and_passes_no_gradient(t: int, s: int, seed: int) -> None:
    q, k, v = normal(seed, t + 1, 3), normal(seed + 1, s, 3), normal(seed + 2, s, 2)
    mask = np.random.default_rng(seed).random((t + 1, s)) < 0.7
    mask[t] = False
    k[0], v[0] = np.where(mask[:, 0].any(), 1.0, np.inf), 1.0  # what every query is masked from may be anything
    y, backward = F.attention(q, np.nan_to_num(k, posinf=1e300), v, mask=mask)
    dq, dk, dv, _ = backward(normal(seed + 3, t + 1, 2))
    assert not y[t].any() and not dq[t].any()
    for gradient in (dk, dv):
        assert np.isfinite(gradient).all() and not gradient[~mask.any(axis=0)].any()


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), seeds)
def test_scaling_q_up_and_k_down_is_not_seen(t: int, s: int, d: int, seed: int) -> None:
    """The scores see q kᵀ alone: under q → q M, k → k M⁻ᵀ they stay, and so qᵀ dq = dkᵀ k."""
    q, k, v = normal(seed, t, d), normal(seed + 1, s, d), normal(seed + 2, s, 3)
    y, backward = F.attention(q, k, v)
    dq, dk, _, _ = backward(normal(seed + 3, t, 3))
    np.testing.assert_allclose(q.T @ dq, dk.T @ k, rtol=0, atol=1e-13)
    assert F.attention(4 * q, k / 4, v)[0].tobytes() == y.tobytes()


@given(st.integers(1, 4), st.integers(1, 6), seeds)
def test_softmax_sums_to_one_and_its_gradient_to_zero(n: int, s: int, seed: int) -> None:
    x, dy = whole(seed, n, s).astype(np.float64), normal(seed + 1, n, s)
    p, backward = F.softmax(x)
    # s − 1 roundings in either sum, and one in each product and quotient.
    assert (abs(p.sum(axis=-1) - 1) <= 2 * s * U).all()
    assert (abs(backward(dy).sum(axis=-1)) <= 5 * s * U * abs(p * dy).sum(axis=-1)).all()
    assert F.softmax(x + 1000)[0].tobytes() == p.tobytes()  # whole numbers: the shift is exact


@given(st.integers(0, 7), st.integers(1, 4), st.booleans(), seeds)
@example(1, 1, False, 0)
@example(1, 1, True, 0)
def test_the_loss_over_a_vocabulary_in_blocks_is_that_of_all_rows(
    n: int, rows_at_once: int, trained: bool, seed: int
) -> None:
    h, head, rng = normal(seed, n, 3), Linear(3, 4, dtype=np.float64, rng=seed), np.random.default_rng(seed)
    targets = np.where(rng.random(n) < 0.3, -100, rng.integers(0, 4, n))
    z, back_head = head(h)
    plain, back_loss = F.cross_entropy(z, targets)
    dh = back_head(back_loss(1.5))
    dweight, head.weight.grad = head.weight.grad, None
    head.requires_grad_(trained)
    loss, backward, number = projected_cross_entropy(h, targets, head, rows_at_once=rows_at_once)
    np.testing.assert_allclose(loss, plain, rtol=1e-14)
    np.testing.assert_allclose(backward(1.5), dh, rtol=0, atol=1e-14)
    assert number == (targets != -100).sum()
    if trained and number:
        np.testing.assert_allclose(head.weight.grad, dweight, rtol=0, atol=1e-13)


@given(st.integers(1, 5), st.integers(1, 5), seeds, st.sampled_from([0.0, 0.1]))
def test_cross_entropys_gradient_sums_to_zero_and_skips_ignored_rows(
    n: int, v: int, seed: int, smoothing: float
) -> None:
    logits, rng = normal(seed, n, v), np.random.default_rng(seed)
    targets = np.where(rng.random(n) < 0.4, -100, rng.integers(0, v, n))
    loss, backward = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    dz = backward()
    assert loss >= 0
    np.testing.assert_allclose(dz.sum(axis=-1), 0, atol=1e-15)
    assert not dz[targets == -100].any()
    if (targets != -100).any() and v > 1:
        assert dz[targets != -100].any()


@given(st.integers(2, 6), seeds)
def test_a_norm_does_not_see_shift_and_scale(d: int, seed: int) -> None:
    x, dy = normal(seed, 3, d), normal(seed + 1, 3, d)
    y, backward = F.normalize(x, 0.0)
    np.testing.assert_allclose(F.normalize(3 * x + 7, 0.0)[0], y, rtol=0, atol=1e-9)
    dx = backward(dy)
    # d/dc of y(x + c) and d/da of y(a x) are zero: so are Σ dx and Σ dx x. Both grow with 1/σ of the row.
    bound = 1e-12 / x.std(axis=-1) ** 2
    assert (abs(dx.sum(axis=-1)) <= bound).all() and (abs((dx * x).sum(axis=-1)) <= bound).all()
