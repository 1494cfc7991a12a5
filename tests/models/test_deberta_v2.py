"""DeBERTa's attention by hand, and what of a config is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.auto import tasks_of
from npora.models.families.deberta_v2_attention import Distances, attend_apart, disentangled_attention
from npora.models.relative import log_buckets
from npora.nn import Packing
from npora.nn.residual import Shared
from npora.nn.view import View
from tests.tiny_encoders import tiny_encoder

CONFIG: Any = tasks_of("deberta-v2")["MaskedLM"].config_class


def test_buckets_hold_one_distance_up_to_half_of_them_and_more_and_more_then() -> None:
    found = log_buckets(np.arange(-20, 21), 8, 20)
    assert found.tolist()[20:] == [0, 1, 2, 3, 4, 5, 5, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 8]
    assert (found == -found[::-1]).all()


def test_scores_are_sums_of_three_products() -> None:
    rng = np.random.default_rng(0)
    q, k, v, kappa, chi = (rng.standard_normal((2, n, d)) for n, d in ((3, 4), (5, 4), (5, 4), (9, 4), (9, 4)))
    distance = np.array([0, 2, 4])[:, None] - np.arange(5) + 4
    for keys, queries in ((kappa, chi), (kappa, None), (None, chi), (None, None)):
        y, _ = disentangled_attention(q, k, v, keys, queries, distance, scale=0.3)
        for h, t in np.ndindex(2, 3):
            scores = np.array([
                q[h, t] @ k[h, s]
                + (0 if keys is None else q[h, t] @ keys[h, distance[t, s]])
                + (0 if queries is None else k[h, s] @ queries[h, distance[t, s]])
                for s in range(5)
            ])  # fmt: skip
            p = np.exp(0.3 * scores)
            np.testing.assert_allclose(y[h, t], p / p.sum() @ v[h], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size=3 is not supported; only 0 is"),
        ({"pos_att_type": "p2c|p2p"}, "pos_att_type 'p2p' is not supported; only c2p and p2c are"),
        ({"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd 'batch_norm' is not supported; only layer_norm and none are"),
        ({"attention_head_size": 32}, "attention_head_size=32 is not supported; only 64 is"),
        ({"pooler_hidden_size": 32}, "pooler_hidden_size=32 is not supported; only 1536 is"),
        ({"pooler_hidden_act": "maxout"}, "pooler_hidden_act 'maxout' is not one of"),
        ({"type_vocab_size": -1}, "type_vocab_size must be a whole number from 0 on; got -1"),
        ({"position_buckets": 1}, "position_buckets is 1, where distances are told apart up to 512"),
        ({"position_buckets": 40, "max_relative_positions": 20}, "position_buckets is 40, where .* up to 20"),
        ({"num_attention_heads": 5}, "hidden_size 1536 is not a multiple of num_attention_heads 5"),
    ],
)
def test_what_a_config_asks_for_and_npora_lacks_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CONFIG.from_dict(fields)


def test_what_would_be_another_model_is_refused() -> None:
    model = tiny_encoder("deberta-v2", "SequenceClassification", position_biased_input=False)
    ids = np.array([[5, 6, 7, 8]])
    with pytest.raises(ValueError, match="mask of sequence 0 hides tokens between others: DeBERTa sees distances"):
        model(ids, [[1, 1, 0, 1]])
    with pytest.raises(ValueError, match="position_ids were given, and this DeBERTa has no table of positions"):
        model(ids, position_ids=ids)
    with pytest.raises(ValueError, match="in DeBERTa, and elsewhere as yes or no: say problem_type='multi_label"):
        model(ids, labels=np.array([[0.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match="embedding_size is 4, hidden_size 6: say legacy=True"):
        tiny_encoder("deberta-v2", "MaskedLM", legacy=False)
    blind = tiny_encoder("deberta-v2", "SequenceClassification", relative_attention=False)
    assert blind(ids, [[1, 1, 0, 1]])[0].logits.shape == (1, 3)


def test_without_positions_in_its_input_a_text_may_be_of_any_length() -> None:
    model = tiny_encoder("deberta-v2", "TokenClassification", np.float64, position_biased_input=False)
    assert model.config.most_tokens is None
    assert model(np.full((1, 30), 5))[0].logits.shape == (1, 30, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"position_buckets": 4, "max_relative_positions": 20},
        {"position_buckets": -1, "max_relative_positions": 3},
        {"position_buckets": 0, "max_relative_positions": 3},
        {"position_buckets": 4, "max_relative_positions": 20, "norm_rel_ebd": "none"},
    ],
)
def test_each_distance_has_the_row_of_its_bucket(fields: dict[str, Any]) -> None:
    """In a text of 6 tokens, beside shorter ones; a distance beyond the table has the last row of its side."""
    encoder = tiny_encoder("deberta-v2", "SequenceClassification", np.float64, **fields).body.encoder
    for number, parameter in enumerate(encoder.tables()[-1].parameters()):
        parameter.data = parameter.data + np.random.default_rng(number).standard_normal(parameter.shape)
    table = encoder.rel_embeddings.weight.data
    if encoder.LayerNorm is not None:
        table, _ = encoder.LayerNorm(table)
    found, _ = encoder.distances(Packing.of_lengths([2, 6, 1]))
    span, buckets = encoder.span, fields["position_buckets"]
    for number, distance in enumerate(range(-5, 6)):
        bucket = int(log_buckets(np.array([distance]), buckets, 20)[0]) if buckets > 0 else distance
        expected = table[min(max(bucket + span, 0), 2 * span - 1)]
        np.testing.assert_array_equal(found.rows.value[found.bucket[number]], expected)
    assert len(found.bucket) == 11
    for length in (1, 4, 6):
        assert np.arange(-5, 6)[found.within(length)].tolist() == list(range(1 - length, length))


def test_what_several_distances_share_gets_the_sum_of_their_gradients() -> None:
    rng = np.random.default_rng(1)
    distances = Distances(Shared(rng.standard_normal((3, 4))), np.array([0, 0, 0, 1, 2, 2, 2]))
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((7, 4))
    y, backward = distances.spread(x)
    np.testing.assert_array_equal(y, x[[0, 0, 0, 1, 2, 2, 2]])
    np.testing.assert_allclose(backward(dy), [dy[:3].sum(0), dy[3], dy[4:].sum(0)], atol=1e-15)


def test_texts_of_several_lengths_attend_each_for_itself_to_the_rows_of_its_distances() -> None:
    rng, heads, d = np.random.default_rng(2), 2, 3
    packing = Packing.of_lengths([3, 1, 5])
    q, k, v = (rng.standard_normal((9, heads * d)) for _ in range(3))
    kappa, chi = (rng.standard_normal((9, heads * d)) for _ in range(2))
    distances = Distances(Shared(np.zeros((9, 1))), np.arange(9))
    y, _ = attend_apart(
        q, k, v, [kappa, chi], heads, View(packing), distances, scale=0.4, dropout_p=0.0, rng=None
    )  # fmt: skip
    for start, length in ((0, 3), (3, 1), (4, 5)):
        for h, t in np.ndindex(heads, length):
            part, far = slice(h * d, h * d + d), lambda s, t=t: t - s + 4
            scores = np.array([
                q[start + t, part] @ k[start + s, part] + q[start + t, part] @ kappa[far(s), part]
                + k[start + s, part] @ chi[far(s), part] for s in range(length)
            ])  # fmt: skip
            p = np.exp(0.4 * scores)
            np.testing.assert_allclose(y[start + t, part], p / p.sum() @ v[start : start + length, part], atol=1e-13)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, set()),
        ({"pos_att_type": "c2p"}, {"LayerNorm.bias"}),
        ({"pos_att_type": None}, {"LayerNorm.bias", "LayerNorm.weight", "rel_embeddings.weight"}),
        ({"relative_attention": False}, {"LayerNorm.bias", "LayerNorm.weight"}),
    ],
)
def test_what_no_score_reads_is_said(fields: dict[str, Any], expected: set[str]) -> None:
    encoder = tiny_encoder("deberta-v2", "SequenceClassification", **fields).body.encoder
    assert set(encoder.idle_parameters()) == expected


@pytest.mark.parametrize("legacy", [True, False])
def test_a_head_of_either_form_says_what_it_does_not_read(legacy: bool) -> None:
    model = tiny_encoder(
        "deberta-v2", "MaskedLM", legacy=legacy, embedding_size=6, **({"tie_word_embeddings": False} if legacy else {})
    )
    assert set(model.idle_parameters()) == ({"cls.predictions.bias"} if legacy else set())


@pytest.mark.parametrize(
    ("furthest", "buckets", "expected"), [(-1, -1, (12, 12)), (0, 0, (12, 12)), (1, -1, (1, 1)), (7, 4, (7, 4))]
)
def test_what_is_not_above_zero_is_not_said(furthest: int, buckets: int, expected: tuple[int, int]) -> None:
    config = CONFIG(max_position_embeddings=12, max_relative_positions=furthest, position_buckets=buckets)
    assert (config.max_distance, config.span) == expected
