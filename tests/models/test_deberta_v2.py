"""DeBERTa's attention by hand, and what of a config is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.auto import tasks_of
from npora.models.families.deberta_v2_attention import disentangled_attention
from npora.models.relative import log_buckets
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
