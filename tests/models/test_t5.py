"""T5's values, which a derivative check does not see: against transformers' (see make_golden_t5.py) and by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.lora import LoraConfig, get_peft_model
from npora.models import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5ForSequenceClassification
from npora.models.relative import relative_bias, relative_buckets
from npora.nn import Cache, Embedding, Packing, no_grad
from npora.nn.init import Unset
from npora.nn.module import Array
from npora.nn.view import View

GOLDEN = Path(__file__).with_name("golden_t5.json")
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 24, 9, 1], [30, 0, 0, 0, 0], [5, 5, 29, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]),
    "labels": np.array([[4, 1, -100, -100], [8, 14, -100, 1], [1, -100, -100, -100]]),
}
ENDED = np.array([[7, 3, 24, 9, 1], [1, 0, 0, 0, 0], [5, 1, 29, 0, 0]])
CLASSES = np.array([2, 0, 1])
PROMPT = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
KINDS: dict[str, dict[str, Any]] = {
    "1.0": {"feed_forward_proj": "relu"},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
SIZES: dict[str, Any] = {
    "vocab_size": 31, "d_model": 6, "d_kv": 5, "num_heads": 2, "d_ff": 7, "num_layers": 2, "num_decoder_layers": 3,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 4, "decoder_start_token_id": 3,
}  # fmt: skip
LAST = np.array([1, 3, 0])  # the column of each sequence's last label


def tiny_t5(kind: str = "1.0", dtype: Any = np.float64, **config: Any) -> T5ForConditionalGeneration:
    model = T5ForConditionalGeneration(T5Config(**{**SIZES, **KINDS[kind], **config}), rng=0, dtype=dtype)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


def tiny_classifier(**config: Any) -> T5ForSequenceClassification:
    model = T5ForSequenceClassification(T5Config(**SIZES, num_labels=3, **config), rng=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    return model


def starts(buckets: Array) -> list[int]:
    """Where each run of equal buckets begins."""
    return [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist()]


def gradients(model: Any) -> list[bytes]:
    return [parameter.grad.tobytes() for parameter in model.parameters() if parameter.grad is not None]


def test_logits_and_loss_are_those_of_transformers() -> None:
    for kind in KINDS:
        expected = json.loads(GOLDEN.read_text())[kind]
        output, _ = tiny_t5(kind)(**BATCH)
        # Five layers, sums of at most 10 terms of size about 1.
        rows = output.logits[np.arange(3), LAST]
        np.testing.assert_allclose(rows, expected["logits"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(output.loss, expected["loss"], rtol=0, atol=1e-12)
        assert output.num_items == 6


def test_the_classes_are_those_of_transformers() -> None:
    expected = json.loads(GOLDEN.read_text())["classes"]
    output, _ = tiny_classifier()(ENDED, PROMPT["attention_mask"], labels=CLASSES)
    np.testing.assert_allclose(output.logits, expected["logits"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(output.loss, expected["loss"], rtol=0, atol=1e-12)


def test_a_sequence_without_its_end_has_no_class() -> None:
    for ids, found in (([[1, 4], [3, 4]], r"\[1, 0\]"), ([[1, 1], [4, 1]], r"\[2, 1\]")):
        with pytest.raises(ValueError, match=f"the same number of end-of-sequence tokens, .* {found}"):
            tiny_classifier()(np.array(ids))


def test_ids_that_are_no_batch_are_named() -> None:
    for ids in (3, [1, 4, 1], [[[1, 4]]]):
        with pytest.raises(ValueError, match=r"input_ids must be \[batch, length\]; got shape \("):
            tiny_classifier()(np.array(ids))


def test_the_first_values_have_the_sizes_of_transformers() -> None:
    model = T5ForConditionalGeneration(T5Config(
        vocab_size=400, d_model=90, d_kv=40, num_heads=10, d_ff=160, num_layers=1, initializer_factor=0.5,
        tie_word_embeddings=False, feed_forward_proj="gated-gelu",
    ), rng=0)  # fmt: skip
    d, inner, f = 90**-0.5, 400**-0.5, 160**-0.5
    stds = {"q": d * 40**-0.5, "k": d, "v": d, "o": inner, "wi_0": d, "wi_1": d, "wo": f, "relative_attention_bias": d,
            "shared": 1.0, "lm_head": 1.0}  # fmt: skip
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter.data == 1).all()
        else:  # the spread of n draws is known to about 1/√(2n)
            expected = 0.5 * stds[name.split(".")[-2]]
            assert abs(parameter.data.std() / expected - 1) < 4 / np.sqrt(2 * parameter.size), name


def test_lora_on_t5_small_trains_as_many_numbers_as_with_peft() -> None:
    model = get_peft_model(T5ForConditionalGeneration(T5Config(), rng=Unset()), LoraConfig(r=8))  # its default targets
    assert sum(parameter.size for parameter in model.parameters() if parameter.requires_grad) == 294_912
    assert sum(parameter.size for parameter in model.parameters()) == 60_801_536


def test_buckets_are_single_distances_first_and_grow_with_the_logarithm() -> None:
    after = relative_buckets(np.arange(130), bidirectional=True)
    before = relative_buckets(-np.arange(130), bidirectional=True)
    assert before[:16].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 9, 9, 9, 9]
    assert after[0] == 0 and (after[1:] == before[1:] + 16).all()
    starts = {int(bucket): int(np.argmax(before == bucket)) for bucket in range(8, 16)}
    assert starts == {8: 8, 9: 12, 10: 16, 11: 23, 12: 32, 13: 46, 14: 64, 15: 91}
    causal = relative_buckets(np.arange(-200, 3), bidirectional=False)[::-1]
    assert causal[:20].tolist() == [0, 0, *range(17), 16] and causal[-1] == 31


def test_buckets_start_where_those_of_transformers_do() -> None:
    for name, expected in json.loads(GOLDEN.read_text())["buckets"].items():
        buckets, max_distance = map(int, name.split(", "))
        for direction, first in zip((True, False), expected, strict=True):
            assert starts(relative_buckets(-np.arange(3001), direction, buckets, max_distance)) == first


def test_the_bias_of_a_head_is_its_column_of_the_table() -> None:
    table = Embedding(6, 2, rng=1, dtype=np.float64)
    bias, _ = relative_bias(table, lambda r: relative_buckets(r, True, 6, 4), View(Packing.of_lengths([2, 3])))
    E = table.weight.data
    assert bias.shape == (1, 2, 3, 3)
    for head in (0, 1):
        for t in range(3):
            for s in range(3):
                bucket = {0: 0, -1: 1, -2: 2, 1: 4, 2: 5}[s - t]
                assert bias[0, head, t, s] == E[bucket, head]


def test_labels_are_shifted_behind_the_start_token() -> None:
    assert tiny_t5().shift_right(BATCH["labels"]).tolist() == [[3, 4, 1, 0], [3, 8, 14, 0], [3, 1, 0, 0]]
    with pytest.raises(ValueError, match="pad_token_id"):
        tiny_t5(pad_token_id=None).shift_right(BATCH["labels"])
    with pytest.raises(ValueError, match="labels or decoder_input_ids"):
        tiny_t5()(**PROMPT)


def test_rows_behind_the_last_label_change_nothing() -> None:
    model = tiny_t5()
    output, backward = model(**BATCH)
    backward()
    alone = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    everything, back = model(**BATCH, decoder_attention_mask=np.ones((3, 4)))
    back()
    np.testing.assert_allclose(everything.loss, output.loss, rtol=0, atol=1e-13)
    for parameter, grad in zip(model.parameters(), alone, strict=True):
        np.testing.assert_allclose(parameter.grad, grad, rtol=0, atol=1e-12)
    assert not output.logits[0, 2:].any() and output.logits[1].all()


def logits_by_steps(model: Any, rows: list[list[int]], steps: list[list[int]], cached: bool) -> list[Array]:
    """The next logits after each step; a step gives each sequence that many of its tokens."""
    memory, cache, done, found = model.encode(**PROMPT), Cache(), [0] * len(rows), []
    for step in steps:
        first = done if cached else [0] * len(rows)
        done = [start + count for start, count in zip(done, step, strict=True)]
        parts = [row[a:b] for row, a, b in zip(rows, first, done, strict=True)]
        packing = Packing.of_lengths([len(part) for part in parts])
        with no_grad():
            cache = cache if cached else Cache()
            found.append(model.next_logits(np.concatenate(parts).astype(int), packing, cache, memory))
    return found


def test_a_cache_gives_the_logits_of_the_whole_for_prompts_of_unequal_length() -> None:
    rows = np.random.default_rng(3).integers(0, 31, (3, 12)).tolist()
    for kind in KINDS:
        model = tiny_t5(kind)
        for steps in ([[1, 4, 2], [1, 1, 1], [1, 1, 1], [2, 3, 1]], [[2, 2, 2], [1, 1, 1], [4, 4, 4]]):
            pairs = zip(*(logits_by_steps(model, rows, steps, cached) for cached in (True, False)), strict=True)
            for cached, whole in pairs:
                # The same sums in other blocks: a hundred roundings of numbers of size about 10.
                np.testing.assert_allclose(cached, whole, rtol=0, atol=1e-12)


def test_next_logits_are_those_of_a_forward_pass() -> None:
    for kind in KINDS:
        model = tiny_t5(kind)
        ids = model.shift_right(BATCH["labels"])
        logits = model(**PROMPT, decoder_input_ids=ids)[0].logits[:, -1]
        following = model.next_logits(ids.ravel(), Packing.dense(3, 4), Cache(), model.encode(**PROMPT))
        np.testing.assert_allclose(following, logits, rtol=0, atol=1e-13)


def test_a_head_is_tied_unless_the_file_has_another_and_scaled_as_the_config_says() -> None:
    shared, other = np.ones((3, 2)), np.zeros((3, 2))
    for config, stored, tied, scaled in (
        ({}, {}, True, True),
        ({"tie_word_embeddings": False}, {}, True, False),
        ({"tie_word_embeddings": True}, {"lm_head.weight": other}, False, True),
        ({"tie_word_embeddings": False}, {"lm_head.weight": other}, False, False),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, {"lm_head.weight": shared}, True, True),
    ):
        for name in ("shared.weight", "decoder.embed_tokens.weight"):
            values = dict(config)
            T5ForConditionalGeneration.adjust(values, {name: shared, **stored})
            assert values == {"tie_word_embeddings": tied, "scale_decoder_outputs": scaled}


def test_the_memory_is_projected_once() -> None:
    model = tiny_t5()
    memory, cache, one = model.encode(**PROMPT), Cache(), Packing.dense(3, 1)
    model.next_logits(np.array([3, 3, 3]), one, cache, memory)
    assert [cache["cross", layer].lengths.tolist() for layer in range(3)] == [[5, 1, 3]] * 3
    expected = model.next_logits(np.array([7, 8, 9]), one, copy.deepcopy(cache), memory)
    memory.rows = memory.rows + np.nan
    assert model.next_logits(np.array([7, 8, 9]), one, cache, memory).tobytes() == expected.tobytes()


def test_beams_go_on_as_the_sequences_that_they_were_chosen_from() -> None:
    model = tiny_t5("1.1")
    chosen, ids = np.array([2, 0, 0, 1]), np.array([6, 7, 8, 9])
    memory, cache = model.encode(**PROMPT), Cache()
    model.next_logits(np.array([3, 4, 5]), Packing.dense(3, 1), cache, memory)
    cache.select(chosen)
    memory.select(chosen)
    after = model.next_logits(ids, Packing.dense(4, 1), cache, memory)
    again = {key: value[chosen] for key, value in PROMPT.items()}
    whole = np.stack([np.array([3, 4, 5])[chosen], ids], axis=1).ravel()
    expected = model.next_logits(whole, Packing.dense(4, 2), Cache(), model.encode(**again))
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-12)
    uncached = model.next_logits(whole, Packing.dense(4, 2), Cache(), memory)
    np.testing.assert_allclose(uncached, expected, rtol=0, atol=1e-12)


def test_recomputed_layers_give_the_same_bits() -> None:
    for kind in KINDS:
        model = tiny_t5(kind)
        plain, backward = model(**BATCH, rng=np.random.default_rng(1))
        backward()
        expected = gradients(model)
        model.zero_grad()
        model.gradient_checkpointing_enable()
        output, backward = model(**BATCH, rng=np.random.default_rng(1))
        backward()
        assert output.loss == plain.loss and gradients(model) == expected


def test_what_is_trained_alone_has_the_gradient_that_it_has_among_all() -> None:
    model = tiny_t5()
    model(**BATCH)[1]()
    everything = {name: parameter.grad for name, parameter in model.named_parameters()}
    for part in ("shared.", "encoder.block.0.layer.0.SelfAttention.relative", "encoder.block.1.layer.0.SelfAttention.v",
                 "encoder.final", "decoder.block.0.layer.0.SelfAttention.relative", "decoder.block.2.layer.2",
                 "decoder.block.1.layer.1.EncDecAttention.k"):  # fmt: skip
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(part)
        model.zero_grad()
        model(**BATCH)[1]()
        for name, parameter in model.named_parameters():
            if name.startswith(part):
                # A frozen head's gradient is taken in forward: the same terms, rounded in another order.
                np.testing.assert_allclose(parameter.grad, everything[name], rtol=0, atol=1e-13, err_msg=name)
            else:
                assert parameter.grad is None


def test_padding_on_either_side_is_the_same_and_gaps_are_refused() -> None:
    model = tiny_t5()
    left = {key: np.array([np.roll(row, n) for row, n in zip(BATCH[key], (0, 4, 2), strict=True)]) for key in PROMPT}
    labels = BATCH["labels"]
    assert model(**left, labels=labels)[0].loss == model(**BATCH)[0].loss
    gap = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]])
    with pytest.raises(ValueError, match="mask of sequence 2 hides tokens between others"):
        model(BATCH["input_ids"], gap, labels=labels)
    gap[1] = 1, 0, 0, 1, 0
    with pytest.raises(ValueError, match="mask of sequence 1 hides tokens between others"):  # the first of two
        model(BATCH["input_ids"], gap, labels=labels)
    with pytest.raises(ValueError, match="mask of sequence 0 hides tokens between others"):
        T5EncoderModel(T5Config(**SIZES))(np.ones((1, 3), int), np.array([[1, 0, 1]]))


def test_a_classifier_that_looks_for_ends_reads_ids_alone() -> None:
    with pytest.raises(
        ValueError, match="T5ForSequenceClassification looks for ends among input_ids, and reads no inp"
    ):
        tiny_classifier()(inputs_embeds=np.zeros((1, 2, 8)))
