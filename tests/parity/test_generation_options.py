"""What generation is told to do besides, against transformers: every token of greedy and beam search, and the scores
of each processor and warper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from npora.data import Tokenizer
from npora.models.generate import processors, sampling
from tests.made_tokenizers import made
from tests.parity.reference import torch, transformers
from tests.parity.reference_gpt2 import reference_gpt2
from tests.parity.test_generation import MASK, PROMPTS, Pair, pairs, same_ids, scores

__all__ = ["pairs"]
logits_process = transformers.generation.logits_process
LOW = {"pad_token_id": 12, "max_new_tokens": 14, "eos_token_id": 2}

OPTIONS: dict[str, dict[str, Any]] = {
    "a penalty": {"repetition_penalty": 1.7},
    "a reward": {"repetition_penalty": 0.6},
    "no token twice": {"no_repeat_ngram_size": 1, "max_new_tokens": 8, "eos_token_id": 99},
    "no pair twice": {"no_repeat_ngram_size": 2},
    "no triple twice": {"no_repeat_ngram_size": 3, "eos_token_id": 99},
    "long ones": {"min_new_tokens": 6},
    "long ones, prompts counted": {"min_length": 9, "eos_token_id": [2, 4]},
    "bad words": {"bad_words_ids": [[5], [7, 1], [1, 1, 8], [2]]},
    "biased": {"sequence_bias": {(3,): 2.5, (7, 1): -3.0, (6, 8): 4.0, (8,): -0.5}},
    "suppressed": {"suppress_tokens": [0, 3, 6], "begin_suppress_tokens": [2, 9]},
    "a forced end": {"forced_eos_token_id": 2, "max_new_tokens": 5},
    "allowed": {"prefix_allowed_tokens_fn": lambda batch, ids: [2 + batch, 5 + int(ids[-1]) % 4, 9, 11]},
    "several": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4, "bad_words_ids": [[3]],
                "suppress_tokens": [8]},
}  # fmt: skip


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_tokens_are_those_of_transformers(pairs: list[Pair], name: str, beams: int) -> None:
    options = {**LOW, **OPTIONS[name], "num_beams": beams}
    changed = False
    for pair in pairs:
        found = same_ids(pair, **options)
        plain = pair[1].generate(PROMPTS, MASK, **{**LOW, "num_beams": beams})
        changed = changed or found.shape != plain.shape or bool((found != plain).any())
    assert changed


def test_renormalized_beams_are_those_of_transformers(pairs: list[Pair]) -> None:
    options = {**LOW, "num_beams": 3, "suppress_tokens": [0, 3, 6], "renormalize_logits": True}
    different = 0
    for pair in pairs:
        found = same_ids(pair, **options)
        plain = pair[1].generate(PROMPTS, MASK, **{**options, "renormalize_logits": False})
        different += found.shape != plain.shape or bool((found != plain).any())
    assert different


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("more", [{}, {"length_penalty": 2.0}, {"early_stopping": True}, {"max_new_tokens": 3}])
def test_several_beams_come_back_in_the_order_of_transformers(
    pairs: list[Pair], count: int, more: dict[str, Any]
) -> None:
    for pair in pairs:
        found = same_ids(pair, **{**LOW, "num_beams": 4, "num_return_sequences": count, **more})
        assert len(found) == 3 * count and len({str(row) for row in found}) == 3 * count


@pytest.mark.parametrize("beams", [1, 3])
def test_processors_and_criteria_of_ones_own_see_what_transformers_shows_them(pairs: list[Pair], beams: int) -> None:
    """Ids with their prompts, and scores: those of the model, or log-probabilities of beams, after all others."""

    def lower(ids: Any, scores: Any) -> Any:
        scores = scores + 0
        for row, written in zip(scores, ids, strict=True):
            row[int(written[-1])] -= 3
            row[(int(written[0]) + len(written)) % 13] += 2 if row[1] == -np.inf else 0
        return scores

    for pair in pairs:
        options = {**LOW, "num_beams": beams, "suppress_tokens": [1]}
        expected = pair[0].generate(
            torch.tensor(PROMPTS), attention_mask=torch.tensor(MASK),
            logits_processor=transformers.LogitsProcessorList([lower]),
            stopping_criteria=[lambda ids, scores, **kw: (ids[:, -1] == 7) & (ids[:, -2] != 5)], **options,
        ).numpy()  # fmt: skip
        found = pair[1].generate(
            PROMPTS, MASK, logits_processor=[lower],
            stopping_criteria=[lambda ids, scores: (ids[:, -1] == 7) & (ids[:, -2] != 5)], **options,
        )  # fmt: skip
        np.testing.assert_array_equal(found, expected)


def test_an_encoder_decoder_counts_what_its_decoder_has_written(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = transformers.T5Config(
        vocab_size=13, d_model=8, d_kv=3, num_heads=2, d_ff=11, num_layers=2, decoder_start_token_id=0, eos_token_id=1,
        pad_token_id=0,
    )  # fmt: skip
    theirs = transformers.T5ForConditionalGeneration(config).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    theirs.save_pretrained(tmp_path)
    ours: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=np.float64)
    for options in (
        {"min_length": 6}, {"min_new_tokens": 6, "num_beams": 2}, {"repetition_penalty": 1.9, "max_length": 8},
        {"no_repeat_ngram_size": 2, "num_beams": 3, "num_return_sequences": 2}, {"forced_bos_token_id": 4},
        {"begin_suppress_tokens": [3, 5, 7], "forced_bos_token_id": 4}, {"begin_suppress_tokens": [3, 5, 7]},
    ):  # fmt: skip
        options["pad_token_id"] = 12  # where it is 0 beams of transformers are filled up with ends
        expected = theirs.generate(torch.tensor(PROMPTS), attention_mask=torch.tensor(MASK), **options).numpy()
        np.testing.assert_array_equal(ours.generate(PROMPTS, MASK, **options), expected, str(options))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keep", [1, 3])
def test_warped_scores_are_those_of_transformers(seed: int, keep: int) -> None:
    z = scores(seed)[[0, 1, 2, 3, 8, 9]]  # of scores that tie, torch's sort leaves open which come first
    z[1, ::3] = -np.inf  # as top-k leaves them
    pairs: list[tuple[Any, Any]] = [
        *((logits_process.MinPLogitsWarper(p, min_tokens_to_keep=keep), sampling.min_p(z, p, keep))
          for p in (0.02, 0.3, 1.0)),
        *((logits_process.TypicalLogitsWarper(p, min_tokens_to_keep=keep), sampling.typical(z, p, keep))
          for p in (0.05, 0.4, 0.9, 0.999)),
        *((logits_process.EpsilonLogitsWarper(p, min_tokens_to_keep=keep), sampling.epsilon_cutoff(z, p, keep))
          for p in (1e-3, 0.02, 0.3, 0.9)),
    ]  # fmt: skip
    cut = set()
    for warper, found in pairs:
        np.testing.assert_array_equal(found, warper(None, torch.tensor(z)).numpy())
        cut.add(int(np.isfinite(found).sum()))
    assert len(cut) > 5


def test_all_warpers_come_in_the_order_of_transformers(pairs: list[Pair]) -> None:
    """The distribution that is drawn from, of every step that sampling takes."""
    options = {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8, "epsilon_cutoff": 0.04}
    config = transformers.GenerationConfig(do_sample=True, num_beams=1, **options)
    config._eos_token_tensor = None
    theirs = pairs[0][0]._get_logits_processor(config)
    z = scores(9)[:4]
    ours = sampling.warper(*options.values())
    np.testing.assert_array_equal(ours(z), theirs(None, torch.tensor(z)).numpy())
    assert 1 < np.isfinite(ours(z)).sum(axis=1).max() < 9


def test_scores_of_processors_are_those_of_transformers_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    ids, z = rng.integers(0, 11, (6, 9)), rng.standard_normal((6, 11))
    real = np.arange(4) >= rng.integers(0, 4, (6, 1))
    penalty = logits_process.RepetitionPenaltyLogitsProcessor(1.3, torch.tensor((~real).sum(axis=1)))
    for ours, theirs in (
        (processors.repetition_penalty(1.3, real), penalty),
        (processors.no_repeated_ngrams(2), logits_process.NoRepeatNGramLogitsProcessor(2)),
    ):
        expected = theirs(torch.tensor(ids), torch.tensor(z)).numpy()
        np.testing.assert_array_equal(ours(ids, z), expected)
        assert (expected != z).any()


@pytest.mark.parametrize("kind", ["byte-level", "unigram", "metaspace"])
def test_stop_strings_end_sequences_where_transformers_ends_them(kind: str, tmp_path: Path) -> None:
    """Such as begin within a token, lie across several, or were begun in the prompt; one, or several of them."""
    backend = made(kind)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    ours = Tokenizer(backend)
    sizes = {"vocab_size": backend.get_vocab_size(), "n_positions": 64, "n_embd": 8, "n_head": 2, "n_inner": 9}
    pair = reference_gpt2(tmp_path, **sizes), AutoModelForCausalLM.from_pretrained(tmp_path, dtype=np.float64)
    options: dict[str, Any] = {"max_new_tokens": 20, "pad_token_id": 7, "eos_token_id": 999}
    prompts = torch.tensor(PROMPTS + 30)
    free = pair[0].generate(prompts, **options).numpy()
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(12):
        strings = []
        for row in free[: int(rng.integers(1, 3))]:
            text = theirs.decode(row[3:], clean_up_tokenization_spaces=False)
            begin = int(rng.integers(0, len(text) - 6))
            strings.append(text[begin : begin + int(rng.integers(1, 6))])
        strings = [string for string in strings if string.strip() and "\ufffd" not in string] or ["zq"]
        try:
            expected = pair[0].generate(prompts, stop_strings=strings, tokenizer=theirs, **options).numpy()
        except ValueError:  # they know no token that ends such a string
            continue
        found = pair[1].generate(PROMPTS + 30, stop_strings=strings, tokenizer=ours, **options)
        np.testing.assert_array_equal(found, expected, str(strings))
        lengths.add(found.shape[1])
    assert len(lengths) > 2
