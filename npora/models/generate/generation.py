"""Generation: greedy search and sampling, over any model that gives the next token's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.blas import on_one_thread
from npora.models.generate.beam import beam_search
from npora.models.generate.continuations import Continuations
from npora.models.generate.generation_config import GenerationConfig, chosen_options, text_ends
from npora.models.generate.sampling import Warp, perturbed, warper
from npora.models.tokens import pack_tokens
from npora.nn import no_grad
from npora.nn.module import Array


class GenerationMixin:
    """`generate`, for models with `next_logits`."""

    def generate(self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None, **options: Any) -> Array:
        """The function `npora.models.generate.generation.generate` on this model."""
        model: Any = self
        model.say_what_is_drawn()  # as a call of the model does
        return generate(self, input_ids, attention_mask, **options)


def generate(
    model: Any,
    input_ids: npt.ArrayLike,
    attention_mask: npt.ArrayLike | None = None,
    *,
    seed: int | np.random.Generator | None = None,
    streamer: Any = None,
    **options: Any,
) -> Array:
    """Continue prompts, with the names and defaults of transformers' `generate`.    input_ids [b,t]  →  int [b,t+new]

    What is not given here is as `model.generation_config` says, and else the default.

    attention_mask : [b,t], 0 where a prompt is padded, on either side. Without one, tokens that are `pad_token_id`
        are padding, unless that ends sequences too
    max_new_tokens : where sequences end that have not come to an end, 20
    max_length : the same, with the prompt counted; goes unused where max_new_tokens is given too
    do_sample : draw tokens from the model's distribution, after temperature (1), top_k (50; 0: all) and top_p (1); else
        the likeliest is taken, and the three go unused
    num_beams : sequences to follow at once for the most probable whole (beam search); with do_sample they are drawn
    eos_token_id : ends a sequence, or several such; the configs' unless given, [] for none
    pad_token_id : fills up what ended before others; the configs' unless given, else the first eos_token_id
    seed : of sampling: the same seed gives the same ids
    use_cache : keep keys and values of earlier tokens; False computes all of them again for each new one
    length_penalty : log-probabilities of finished beams are divided by their length to this power
    early_stopping : True: stop with num_beams finished; False: as soon as none of them is likely to be beaten; "never":
        when none can be
    streamer : its `put` is given the prompts [b,t] and then each step's tokens [b]; `end` is called last

    An encoder-decoder reads input_ids with its encoder, and returns its decoder's ids, which begin with
    `decoder_start_token_id`.

    The model gives `next_logits(ids [n], packing, cache)` → [b,v], the logits after each of b sequences whose rows are
    those in the cache and then ids; an encoder-decoder `encode(input_ids, attention_mask)` → memory, to be taken by
    next_logits as its fourth, and with a `select(sequences)` that goes on with those, in place, as a Cache's does. A
    `check_padding(padding, length)` of its own or its `body`'s raises for prompts that it does not take, which are to
    grow to that length.

    Raises
    ------
    TypeError: an option that there is not.
    ValueError: options that make no sense, or that npora does not have, here or in the model's generation config (there
    the caller's own overrules it, as repetition_penalty=1.0 does); an empty prompt, an id outside the vocabulary, more
    tokens than the model has positions.  FloatingPointError: logits that are not a number.
    """
    chosen = chosen_options(getattr(model, "generation_config", None) or GenerationConfig(), options)
    num_beams, early_stopping = chosen["num_beams"], chosen["early_stopping"]
    ends, pad = _special_tokens(model, chosen)
    for name in ("max_new_tokens", "max_length", "num_beams"):
        number = chosen[name]
        if number is not None and (number != int(number) or number < 1):
            raise ValueError(f"{name} must be a whole number of at least 1; got {number!r}")
    if early_stopping not in (True, False, "never"):
        raise ValueError(f"early_stopping must be True, False or 'never'; got {early_stopping!r}")
    if streamer is not None and num_beams > 1:
        raise ValueError("a streamer needs num_beams=1: beam search does not know its tokens before the end")
    warp, rng = None, None
    if chosen["do_sample"]:
        at_least = len(ends) + 1 if num_beams > 1 else 1  # a beam must have a way to go on
        warp = warper(chosen["temperature"], chosen["top_k"], chosen["top_p"], at_least)
        rng = np.random.default_rng(seed)
    ids = np.asarray(input_ids)
    mask = _inferred_mask(ids, ends, pad) if attention_mask is None else attention_mask
    with no_grad(), on_one_thread():
        memory = None
        if getattr(model, "is_encoder_decoder", False):
            memory = model.encode(ids, mask)
            ids = np.full((len(ids), 1), _start(model.config, chosen), dtype=ids.dtype)
            mask = np.ones(ids.shape)
        padding = pack_tokens(ids, mask)[1]
        padding.packing.last_rows()  # raises where a shape is wrong or a prompt empty
        most = _most(chosen, ids.shape[1])
        if (check := getattr(getattr(model, "body", model), "check_padding", None)) is not None:
            check(padding, ids.shape[1] + most)
        sequences = Continuations(model, ids, np.asarray(mask, dtype=bool), chosen["use_cache"], memory)
        if num_beams > 1:
            penalty = chosen["length_penalty"]
            new = beam_search(sequences, num_beams, most, ends, pad, penalty, early_stopping, warp, rng)
        else:
            new = _follow(sequences, ids, most, ends, pad, warp, rng, streamer)
    return np.concatenate([ids, new.astype(ids.dtype)], axis=1)


def _follow(
    sequences: Continuations, prompts: Array, most: int, ends: Array, pad: int,
    warp: Warp | None, rng: np.random.Generator | None, streamer: Any,
) -> Array:  # fmt: skip
    """Take or draw one token after another, until every sequence has ended.  →  int [b,new]

    Those that have ended leave the batch. Noise is drawn for them nevertheless, so that a sequence's draws do not
    depend on when others end.
    """
    batch = len(prompts)
    alive = np.arange(batch)
    columns: list[Array] = []
    if streamer is not None:
        streamer.put(prompts)
    while True:
        scores = sequences.logits()  # [alive,v]
        if warp is not None and rng is not None:
            everyone = np.zeros((batch, scores.shape[1]), dtype=scores.dtype)
            everyone[alive] = warp(scores)
            scores = perturbed(everyone, rng)[alive]
        tokens = scores.argmax(axis=1)  # [alive], of equals the first
        column = np.full(batch, pad)
        column[alive] = tokens
        columns.append(column)
        if streamer is not None:
            streamer.put(column)
        going = ~np.isin(tokens, ends)
        if len(columns) == most or not going.any():
            break
        sequences.append(tokens)
        if not going.all():
            sequences.select(np.flatnonzero(going))
            alive = alive[going]
    if streamer is not None:
        streamer.end()
    return np.stack(columns, axis=1)


def _special_tokens(model: Any, chosen: Mapping[str, Any]) -> tuple[Array, int]:
    """The ids that end a sequence, and the one that fills up. Without any end nothing is filled up."""
    eos, pad = chosen["eos_token_id"], chosen["pad_token_id"]
    ends = np.atleast_1d(np.asarray(text_ends(model) if eos is None else eos, dtype=np.int64))
    pad = model.config.pad_token_id if pad is None else pad
    return ends, int(pad if pad is not None else ends[0] if len(ends) else 0)


def _most(chosen: Mapping[str, Any], length: int) -> int:
    """How many tokens may come behind `length` others."""
    if chosen["max_length"] is None:
        return int(chosen["max_new_tokens"])
    if chosen["max_length"] <= length:
        raise ValueError(
            f"max_length={chosen['max_length']} counts the prompt, which has {length} tokens: give a larger one, or "
            "max_new_tokens, which counts those behind it"
        )
    return int(chosen["max_length"]) - length


def _inferred_mask(ids: Array, ends: Array, pad: int) -> Array:
    return np.ones(ids.shape, dtype=bool) if pad in ends or not len(ends) else ids != pad


def _start(config: Any, chosen: Mapping[str, Any]) -> int:
    start = chosen["decoder_start_token_id"]
    start = config.decoder_start_token_id if start is None else start
    if start is None:
        raise ValueError("the config has no decoder_start_token_id, with which a decoder's ids begin")
    return int(start)
