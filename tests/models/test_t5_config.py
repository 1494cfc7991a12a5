"""What a T5's config says, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from npora.models import T5Config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feed_forward_proj": "gated"}, "dense_act_fn 'gated' is not one of"),
        ({"feed_forward_proj": "glued-gelu"}, "feed_forward_proj 'glued-gelu' must be"),
        ({"feed_forward_proj": "gated-gelu-new"}, "feed_forward_proj 'gated-gelu-new' must be"),
        ({"num_decoder_layers": 0}, "num_decoder_layers must be at least 1"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"relative_attention_num_buckets": 3}, "relative_attention_num_buckets must be at least 4"),
        ({"relative_attention_max_distance": 16}, "more than half of it; got 32 and 16"),
        ({"d_kv": 0}, "d_kv must be a positive whole number"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
    ],
)
def test_a_config_that_cannot_be_computed_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        T5Config.from_dict(config)


def test_the_defaults_are_those_of_t5_small() -> None:
    c = T5Config()
    assert (c.vocab_size, c.d_model, c.d_kv, c.d_ff, c.num_layers, c.num_heads) == (32128, 512, 64, 2048, 6, 8)
    assert (c.relative_attention_num_buckets, c.relative_attention_max_distance) == (32, 128)
    assert (c.dropout_rate, c.classifier_dropout, c.layer_norm_epsilon, c.initializer_factor) == (0.1, 0.0, 1e-6, 1.0)
    assert (c.pad_token_id, c.eos_token_id, c.decoder_start_token_id) == (0, 1, 0)


def test_a_config_reads_and_writes_what_transformers_does() -> None:
    config = T5Config.from_dict({"num_layers": 4, "hidden_size": 12, "feed_forward_proj": "gated-silu"})
    assert (config.num_decoder_layers, config.d_model, config.decoder_start_token_id) == (4, 12, 0)
    assert config.is_gated_act is True and config.dense_act_fn == "silu" and config.scale_decoder_outputs
    assert T5Config(feed_forward_proj="gated-gelu").dense_act_fn == "gelu_new"
    assert T5Config(feed_forward_proj="gelu").dense_act_fn == "gelu" and not T5Config().is_gated_act
    untied = T5Config(tie_word_embeddings=False)
    assert untied.scale_decoder_outputs is False and T5Config.from_dict(untied.to_dict()) == untied
