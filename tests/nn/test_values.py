"""Values worked by hand: a derivative check sees that backward fits forward, not that forward is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.nn import (
    CentredRMSNorm,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    Packing,
    Padding,
    RMSNorm,
    is_grad_enabled,
    stack,
)
from npora.nn import functional as F
from npora.nn.module import Pullback
from npora.nn.rotary import linear, llama3


def test_linear_by_hand() -> None:
    layer = Linear(2, 3, dtype=np.float64)
    layer.weight.data = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    layer.bias.data = np.array([0.5, 0.0, -1.0])
    y, backward = layer(np.array([[1.0, -1.0]]))
    assert y.tolist() == [[-0.5, -1.0, -2.0]]  # 1 − 2 + 0.5, 3 − 4, 5 − 6 − 1
    assert backward(np.array([[1.0, 10.0, 100.0]])).tolist() == [[531.0, 642.0]]  # 1 + 30 + 500, 2 + 40 + 600
    assert layer.weight.grad.tolist() == [[1.0, -1.0], [10.0, -10.0], [100.0, -100.0]]
    assert layer.bias.grad.tolist() == [1.0, 10.0, 100.0]


def test_embedding_by_hand() -> None:
    layer = Embedding(3, 2, padding_idx=2, dtype=np.float64)
    layer.weight.data = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    y, backward = layer(np.array([1, 2, 1]))
    assert y.tolist() == [[3.0, 4.0], [5.0, 6.0], [3.0, 4.0]]
    backward(np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]))
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [101.0, 202.0], [0.0, 0.0]]  # twice added; the padding has none


def test_norm_by_hand() -> None:
    # (1, 3, 5, 7): mean 4, variance (9 + 1 + 1 + 9)/4 = 5; with eps 4 the deviation is 3.
    y, _ = F.normalize(np.array([1.0, 3.0, 5.0, 7.0]), 4.0)
    np.testing.assert_allclose(y, [-1, -1 / 3, 1 / 3, 1], rtol=1e-15)
    layer = LayerNorm(4, eps=4.0, dtype=np.float64)
    layer.weight.data, layer.bias.data = np.array([3.0, 3.0, 6.0, 1.0]), np.array([0.0, 1.0, 0.0, 2.0])
    np.testing.assert_allclose(layer(np.array([1.0, 3.0, 5.0, 7.0]))[0], [-3, 0, 2, 3], atol=1e-15)


def test_activations_by_hand() -> None:
    x = np.array([-1.0, 0.0, 0.5, 2.0])
    y, backward = F.relu(x)
    assert y.tolist() == [0.0, 0.0, 0.5, 2.0]
    assert backward(np.array([2.0, 3.0, 4.0, 5.0])).tolist() == [0.0, 0.0, 4.0, 5.0]  # at 0 the slope is 0
    np.testing.assert_allclose(F.silu(x)[0], [v / (1 + math.exp(-v)) for v in x], rtol=1e-15)
    np.testing.assert_allclose(F.gelu(x)[0], [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x], rtol=1e-15)
    cubic = [v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2 for v in x]
    np.testing.assert_allclose(F.gelu_tanh(x)[0], cubic, rtol=1e-15)


def test_gelu_in_single_precision_is_as_near_as_its_parts_allow() -> None:
    """Φ to 3e-7, and a product's rounding."""
    x = np.linspace(-12, 12, 4001)
    y, backward = F.gelu(x.astype(np.float32))
    exact, exact_backward = F.gelu(x.astype(np.float32).astype(np.float64))
    assert (abs(y - exact) <= 3e-7 * np.maximum(1, abs(x))).all()
    dy = np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)
    assert (abs(backward(dy) - exact_backward(dy.astype(np.float64))) <= 6e-7 * abs(dy)).all()
    odd, _ = F.gelu(np.array([np.nan, -0.0], dtype=np.float32))
    assert np.isnan(odd[0]) and odd[1] == 0


def test_the_slope_in_the_left_tail_keeps_its_digits() -> None:
    """1 + tanh u would be a difference of near equals."""
    for function, x in ((F.silu, -33.0), (F.gelu_tanh, -6.5)):
        slope = function(np.array([x]))[1](np.array([-1.3]))
        exact = -1.3 * function(np.array([x + 1e-20j]))[0].imag / 1e-20
        np.testing.assert_allclose(slope, exact, rtol=1e-12)


def test_activations_do_not_see_how_they_are_cut_into_blocks() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40_000))  # more than three blocks
    y, backward = F.gelu(x)
    dx = backward(x)
    for column in (0, 32_767, 32_768, 39_999):
        alone, back_alone = F.gelu(x[:, column].copy())
        assert (y[:, column] == alone).all() and (dx[:, column] == back_alone(x[:, column])).all()


def test_activations_of_huge_numbers_neither_overflow_nor_lose_their_slope() -> None:
    x = np.array([-1e4, 1e4])
    for function in (F.gelu, F.gelu_tanh, F.silu):
        y, backward = function(x)
        assert y.tolist() == [0.0, 1e4] and backward(np.array([3.0, 5.0])).tolist() == [0.0, 5.0]


def test_softmax_by_hand() -> None:
    p, _ = F.softmax(np.log(np.array([1.0, 2.0, 5.0])))
    np.testing.assert_allclose(p, [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)
    masked, _ = F.softmax(np.log(np.array([1.0, 2.0, 5.0])), np.array([True, True, False]))
    np.testing.assert_allclose(masked, [1 / 3, 2 / 3, 0], rtol=1e-15)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 3, 4\) does not broadcast to x, of shape \(3, 4\)"):
        F.softmax(np.zeros((3, 4)), np.ones((2, 3, 4), dtype=bool))
    assert F.softmax(np.array([3.0, np.inf]), np.array([True, False]))[0].tolist() == [1.0, 0.0]
    assert F.softmax(np.array([1e4, -1e4, 1e4]))[0].tolist() == [0.5, 0.0, 0.5]
    assert F.softmax(np.zeros((2, 0)))[0].shape == (2, 0)
    np.testing.assert_allclose(F.log_softmax(np.array([1e4, 1e4]))[0], np.log([0.5, 0.5]), rtol=1e-15)
    assert F.log_softmax(np.array([0.0, 1e4]))[0].tolist() == [-1e4, 0.0]


def test_losses_by_hand() -> None:
    logits = np.log(np.array([[1.0, 3.0], [2.0, 6.0], [5.0, 5.0]]))  # p = (1/4, 3/4), (1/4, 3/4), (1/2, 1/2)
    loss, backward = F.cross_entropy(logits, np.array([0, 1, -100]))
    np.testing.assert_allclose(loss, (math.log(4) + math.log(4 / 3)) / 2, rtol=1e-15)
    np.testing.assert_allclose(backward(2.0), [[-3 / 4, 3 / 4], [1 / 4, -1 / 4], [0, 0]], atol=1e-15)
    # ε = 0.2: q = (0.9, 0.1) for target 0.
    smoothed, _ = F.cross_entropy(logits[:1], np.array([0]), label_smoothing=0.2)
    np.testing.assert_allclose(smoothed, 0.9 * math.log(4) + 0.1 * math.log(4 / 3), rtol=1e-15)
    assert F.cross_entropy(logits, np.array([-100, -100, -100]))[0] == 0
    far = np.array([[0.0, 1000.0], [-1000.0, -1000.0]])  # no exponential may overflow, nor all of a row's vanish
    np.testing.assert_allclose(F.cross_entropy(far, np.array([0, 0]))[0], (1000 + np.log(2)) / 2, rtol=1e-15)
    sure, _ = F.cross_entropy(np.array([[30.0, 0.0]]), np.array([0]))  # e⁻³⁰ is lost beside 1
    np.testing.assert_allclose(sure, math.exp(-30), rtol=1e-12)
    squared, back = F.mse_loss(np.array([1.0, 4.0]), np.array([0.0, 2.0]))
    assert squared == 2.5 and back(2.0).tolist() == [2.0, 4.0]  # (1 + 4)/2; 2 · 2(p − t)/2
    squared, back = F.mse_loss(np.array([5.0]), np.array([2.0]))
    assert squared == 9 and back().tolist() == [6.0]
    yes, back = F.binary_cross_entropy(np.zeros(1), np.ones(1))
    assert yes == math.log(2) and back().tolist() == [-0.5]


def test_attention_by_hand() -> None:
    # d = 4, scale 1/2. q k = 2 ln 3 and 0, so the weights are 3/4 and 1/4.
    q = np.array([[2.0 * math.log(3), 0.0, 0.0, 0.0]])
    k, v = np.eye(4)[:2], np.array([[4.0], [8.0]])
    np.testing.assert_allclose(F.attention(q, k, v)[0], [[5.0]], rtol=1e-15)
    # A bias of ln 3 on the second key evens them out; a scale of 1 gives 9/10 and 1/10.
    bias = np.array([[0.0, math.log(3)]])
    np.testing.assert_allclose(F.attention(q, k, v, bias=bias)[0], [[6.0]], rtol=1e-15)
    np.testing.assert_allclose(F.attention(q, k, v, scale=1.0)[0], [[4.4]], rtol=1e-15)
    hidden = F.attention(q, k, v, mask=np.array([[False, True]]))[0]
    assert hidden.tolist() == [[8.0]]
    # Leading axes are batch and head, whatever their sizes.
    many = F.attention(*(np.broadcast_to(x, (2, 3, *x.shape)) for x in (q, k, v)))[0]
    np.testing.assert_allclose(many, np.full((2, 3, 1, 1), 5.0), rtol=1e-15)


def test_a_causal_layer_sees_up_to_itself_and_the_last_query_sees_every_key() -> None:
    layer = MultiHeadAttention(2, 1, causal=True, dtype=np.float64)
    for projection in (layer.q_proj, layer.k_proj):
        projection.weight.data = np.zeros((2, 2))  # equal weights on all keys that are seen
    for projection in (layer.v_proj, layer.out_proj):
        projection.weight.data = np.eye(2)
    x = np.array([[[2.0, 0.0], [4.0, 0.0], [9.0, 0.0]]])
    assert layer(x)[0][0, :, 0].tolist() == [2.0, 3.0, 5.0]
    assert layer(x[:, :2], x)[0][0, :, 0].tolist() == [3.0, 5.0]  # two queries, three keys


def test_dropout_scales_what_it_keeps() -> None:
    x = np.ones((100, 100), dtype=np.float32)
    y, backward = F.dropout(x, 0.5, np.random.default_rng(0))
    kept = y != 0
    assert np.unique(y[kept]).tolist() == [2] and 0.47 < kept.mean() < 0.53
    assert (backward(x) == y).all()
    some, _ = F.dropout(x[:99, :99], 0.2, np.random.default_rng(0))
    drop = round(0.2 * 65536) / 65536
    np.testing.assert_allclose(some[some != 0], 1 / (1 - drop), rtol=1e-7)
    assert 0.78 < (some != 0).mean() < 0.82
    for p in (1.0, 1 - 1e-9):
        assert not F.dropout(x, p, np.random.default_rng(0))[0].any()
    whole = np.ones(2**18, np.float32)
    assert F.dropout(whole, 2**-18, np.random.default_rng(0))[0].all()  # sixteen bits know no p as small


def test_dropout_happens_exactly_when_a_generator_is_given() -> None:
    x, layer = np.ones((50, 6), dtype=np.float32), Dropout(0.5)
    assert layer(x)[0] is x and 100 < (layer(x, np.random.default_rng(0))[0] == 0).sum() < 200
    rng = np.random.default_rng(0)
    assert Dropout(0.0)(x, rng)[0] is x and F.dropout(x, 0.0, rng)[0] is x and F.dropout(x, 0.5, None)[0] is x
    assert rng.random() == np.random.default_rng(0).random()  # p = 0 draws nothing
    q, k, v = np.ones((50, 4)), np.ones((6, 4)), np.eye(6)
    assert 100 < (F.attention(q, k, v, dropout_p=0.5, rng=np.random.default_rng(0))[0] == 0).sum() < 200
    assert (F.attention(q, k, v, dropout_p=0.5)[0] > 0).all()
    packed = (q[:6], k, v, 1, Packing.dense(1, 6))
    assert 5 < (F.packed_attention(*packed, dropout_p=0.5, rng=np.random.default_rng(0))[0] == 0).sum() < 31
    rng = np.random.default_rng(0)
    assert (F.packed_attention(*packed, dropout_p=0.0, rng=rng)[0] > 0).all()
    assert rng.random() == np.random.default_rng(0).random()
    layer.train()
    with pytest.raises(ValueError, match="in train\\(\\) mode, where dropout needs its randomness passed in"):
        layer(x)
    assert layer.eval()(x)[0] is x


def test_a_rotation_is_exact_far_out_and_of_its_own_rows() -> None:
    far, _ = F.rotation(np.array([100_000]), F.frequencies(2), np.float32)  # the cosine is rounded, and not the angle
    np.testing.assert_allclose(far.item(), math.cos(100_000), rtol=1e-6)
    with pytest.raises(ValueError, match="a turn of 2 positions for heads of 4 features was given for 3 rows"):
        F.rotary(np.eye(8)[:3], F.rotation(np.array([2, 5]), F.frequencies(4)), heads=2)
    with pytest.raises(ValueError, match="turns pairs; got heads of 3"):
        F.frequencies(3)


def test_frequencies_that_are_scaled_by_hand() -> None:
    omega = F.frequencies(6, 1000.0)
    np.testing.assert_allclose(omega, [1, 0.1, 0.01], rtol=1e-15)
    np.testing.assert_allclose(linear(omega, factor=4.0), [0.25, 0.025, 0.0025], rtol=1e-15)
    # Within 40π positions the pairs turn 20, 2 and 0.2 times: more than high, a quarter of the way up from low, less.
    found = llama3(
        omega, factor=8.0, low_freq_factor=1, high_freq_factor=5.0, original_max_position_embeddings=40 * math.pi
    )
    np.testing.assert_allclose(found, [1, 0.1 * (0.75 / 8 + 0.25), 0.01 / 8], rtol=1e-14)


def test_a_rotation_by_hand() -> None:
    # Two heads of width 4, θ = 100: pairs (0, 2) and (1, 3) of a head turn by p and by p/10 at position p.
    y, _ = F.rotary(np.eye(8)[[0, 1, 6]], F.rotation(np.array([2, 2, 5]), F.frequencies(4, 100.0), np.float64), heads=2)
    expected = np.zeros((3, 8))
    expected[0, [0, 2]] = np.cos(2), np.sin(2)  # (1, 0) → (cos φ, sin φ)
    expected[1, [1, 3]] = np.cos(0.2), np.sin(0.2)
    expected[2, [4, 6]] = -np.sin(5), np.cos(5)  # (0, 1) → (−sin φ, cos φ)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-15)


def test_a_padding_by_hand() -> None:
    padding = Padding([[True, True, False], [False, True, True], [True, False, False]])
    assert padding.packing.lengths.tolist() == [2, 2, 1] and padding.packing.starts.tolist() == [0, 2, 4]
    assert padding.positions.tolist() == [0, 1, 1, 2, 0] and padding.packing.rows == 5
    padded = np.arange(9).reshape(3, 3)
    assert padding.pack(padded).tolist() == [0, 1, 4, 5, 6]
    assert padding.unpack(padding.pack(padded)).tolist() == [[0, 1, 0], [0, 4, 5], [6, 0, 0]]
    with pytest.raises(ValueError, match=r"expected a padded batch of shape \(3, 3\) \+ \(…\), got \(3, 2\)"):
        padding.pack(padded[:, :2])
    with pytest.raises(ValueError, match=r"expected the 5 rows of this batch, got an array of shape \(4, 2\)"):
        padding.unpack(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"mask is \[batch, length\], not of shape \(3,\)"):
        Padding([1, 1, 0])


def test_padding_between_tokens_is_a_gap_and_padding_beside_them_is_none() -> None:
    Padding([[1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]]).refuse_gaps("distances are seen")
    with pytest.raises(ValueError, match="mask of sequence 1 hides tokens between others: distances are seen, so"):
        Padding([[0, 1, 1], [1, 0, 1]]).refuse_gaps("distances are seen")


def test_a_packing_by_hand() -> None:
    packing = Packing.of_lengths([2, 2, 1])
    assert packing.lengths.tolist() == [2, 2, 1] and packing.starts.tolist() == [0, 2, 4] and packing.rows == 5
    assert packing.first_rows().tolist() == [0, 2, 4] and packing.last_rows().tolist() == [1, 3, 4]
    assert packing.sequences.tolist() == [0, 0, 1, 1, 2] and packing.places.tolist() == [0, 1, 0, 1, 0]
    assert packing.rows_of([2, 0, 2]).tolist() == [4, 0, 1, 4]
    empty = Packing.of_lengths([])
    assert empty.rows == 0 and empty.starts.shape == empty.lengths.shape == (0,)
    dense = Packing.dense(2, 3)
    assert dense.starts.tolist() == [0, 3] and dense.lengths.tolist() == [3, 3] and dense.rows == 6
    spaced = Packing.spaced([2, 1, 3], 4)
    assert spaced.starts.tolist() == [0, 4, 8] and spaced.lengths.tolist() == [2, 1, 3] and spaced.rows == 12
    assert spaced.places.tolist() == [0, 1, 0, 0, 1, 2] and spaced.rows_of([1, 0]).tolist() == [4, 0, 1]
    with pytest.raises(ValueError, match="sequence 1 of the batch has no token"):
        Packing.of_lengths([2, 0]).last_rows()


@pytest.mark.parametrize(
    ("starts", "lengths", "rows"), [([0, 2], [3, 1], 9), ([0, 3], [3, 2], 4), ([-1], [1], 3), ([1, 1], [-1, 1], 3)]
)
def test_sequences_that_overlap_or_lie_outside_are_no_packing(starts: list[int], lengths: list[int], rows: int) -> None:
    with pytest.raises(ValueError, match="do not lie one behind the other within"):
        Packing(np.array(starts), np.array(lengths), rows)
    with pytest.raises(ValueError, match=r"a start and a length of each sequence; got \(1,\) and \(2,\)"):
        Packing(np.array([0]), np.array([1, 1]), 2)


class Noted(Linear):
    """Notes, at each call, whether gradients are wanted."""

    def forward(self, x: np.ndarray, rng: object = None) -> tuple[np.ndarray, Pullback]:
        self.calls = [*getattr(self, "calls", []), is_grad_enabled()]
        return super().forward(x)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_stack_keeps_nothing_below_its_lowest_trained_layer_and_computes_again_when_asked(recompute: bool) -> None:
    layers = [Noted(2, 2, rng=i).requires_grad_(i == 1) for i in range(3)]
    x = np.ones((3, 2), dtype=np.float32)
    y, backward = stack(layers, x, below_is_trained=False, recompute=recompute)
    assert backward(y) is None and layers[1].weight.grad is not None
    kept = [False, True] if recompute else [True]  # first without keeping anything, then again in backward
    assert [layer.calls for layer in layers] == [[False], kept, kept]
    layers[2].calls = []
    stack(layers[2:], x, below_is_trained=True, recompute=recompute)
    assert layers[2].calls == [not recompute]


def test_a_centred_norms_gain_is_one_more_than_its_weight() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((3, 5)), rng.standard_normal(5)
    centred, plain = CentredRMSNorm(5, dtype=np.float64), RMSNorm(5, dtype=np.float64)
    centred.weight.data, plain.weight.data = w, 1 + w
    np.testing.assert_array_equal(centred(x)[0], plain(x)[0])


def test_a_layer_norm_without_a_bias_is_scaled_by_its_weight() -> None:
    layer = LayerNorm(3, 1e-12, bias=False, dtype=np.float64)
    layer.weight.data = np.array([3.0, 0.5, -2.0])
    assert layer.in_features == RMSNorm(3).in_features == 3
    deviation = math.sqrt(14 / 3)  # of 0, 1 and 5 from 2
    np.testing.assert_allclose(layer(np.array([[0.0, 1.0, 5.0]]))[0] * deviation, [[-6.0, -0.5, -6.0]], rtol=1e-11)
