"""A decoder's classifier reads each text's last token, whatever pads a batch, and trains on unequal lengths."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import Trainer, TrainingArguments
from npora.data import Dataset
from npora.models import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)
from tests.tiny import randomized
from tests.tiny_decoders import WINDOWED, tiny_decoder

VOCABULARY = 11


def decoder(family: str, pad: int | None) -> Any:
    return tiny_decoder(family, "SequenceClassification", vocab_size=VOCABULARY, pad_token_id=pad)


FAMILIES: dict[str, Any] = {
    "gpt2": lambda pad: GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=12, n_embd=6, n_layer=2, n_head=2, num_labels=3, pad_token_id=pad,
            eos_token_id=2,
        ), rng=0, dtype=np.float64,
    ),
    "llama": lambda pad: LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=8, intermediate_size=9, num_hidden_layers=2, num_attention_heads=2,
            num_labels=3, pad_token_id=pad,
        ), rng=0, dtype=np.float64,
    ),
    **{family: partial(decoder, family) for family in WINDOWED},
    "t5": lambda pad: T5ForSequenceClassification(
        T5Config(
            vocab_size=VOCABULARY, d_model=6, d_kv=3, d_ff=7, num_layers=2, num_heads=2, num_labels=3, eos_token_id=1,
            pad_token_id=0 if pad is None else pad, decoder_start_token_id=0,
        ), rng=0, dtype=np.float64,
    ),
}  # fmt: skip
TEXTS = st.lists(st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=6), min_size=1, max_size=4)


@given(
    st.sampled_from(sorted(FAMILIES)), TEXTS, st.sampled_from([None, 0, 1, 2, 7]), st.integers(0, VOCABULARY - 1),
    st.integers(0, 2),
)  # fmt: skip
def test_a_batch_gives_what_each_text_gives_alone(
    family: str, texts: list[list[int]], pad_token_id: int | None, filler: int, further: int
) -> None:
    """The filler need not be pad_token_id, and that may stand inside a text, or end it."""
    model = randomized(FAMILIES[family](pad_token_id))
    if family == "t5":
        texts = [[*text, 1] for text in texts]
    width = max(map(len, texts)) + further
    ids = np.array([text + [filler] * (width - len(text)) for text in texts])
    mask = np.array([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    found = model(ids, mask)[0].logits
    for logits, text in zip(found, texts, strict=True):
        alone = model([text], np.ones((1, len(text))))[0].logits[0]
        np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-12)  # a few hundred roundings of values of size 1


def test_an_end_that_the_mask_hides_ends_nothing() -> None:
    model = randomized(FAMILIES["t5"](0))
    found = model([[5, 3, 1], [4, 1, 1]], [[1, 1, 1], [1, 1, 0]])[0].logits
    alone = model([[4, 1]])[0].logits
    np.testing.assert_allclose(found[1:], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("pad_token_id", [None, 2])
def test_texts_of_unequal_lengths_train_and_are_predicted(family: str, pad_token_id: int | None, tmp_path: Any) -> None:
    model = randomized(FAMILIES[family](pad_token_id))
    rows = Dataset({"input_ids": list(range(3, 3 + n)), "labels": n % 3} for n in (1, 4, 2, 6, 3))
    trainer = Trainer(model, TrainingArguments(output_dir=str(tmp_path), max_steps=2, seed=0), rows, rows)
    trainer.train()
    found = trainer.predict(rows).predictions
    alone = [model([row["input_ids"]])[0].logits[0] for row in rows]
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-12)
