"""Which files are mutated, what judges them, and which mutants may survive, with the reason.

Imports nothing of npora before `judges` is called: the mutant must be in its place by then.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

LAYERS = [f"npora/nn/{name}.py" for name in ("linear", "embedding", "norm", "dropout", "softmax", "activation", "erf",
          "normal", "gated", "loss", "cross_entropy", "scaled_attention", "packed_attention", "attention_plan", "rules",
          "pooling", "attention", "packing", "padding", "rotary", "vocabulary", "stack", "cache", "shared", "view",
          "residual")]  # fmt: skip
MODELS = [f"npora/models/{name}.py" for name in ("tokens", "losses", "tasks", "body", "encoder_decoder", "relative",
          "families/bert", "families/bert_layers", "families/roberta", "families/xlm_roberta", "families/electra",
          "families/mpnet", "families/modernbert", "families/modernbert_config", "families/distilbert",
          "families/gpt2", "families/llama", "families/mistral",
          "families/phi3", "families/olmo2", "families/smollm3", "families/qwen2", "families/qwen3", "families/gemma3",
          "families/t5", "families/t5_stack", "rope", "windows")]  # fmt: skip
GENERATION = [
    f"npora/models/generate/{name}.py"
    for name in ("sampling", "continuations", "beam", "generation", "processors", "stopping")
]
LORA = [f"npora/lora/{name}.py" for name in ("adapter", "adapted", "methods/lora")]
FILES = [*LAYERS, *LORA, *MODELS, *GENERATION,
         *(f"npora/optim/{name}.py" for name in ("sgd", "adam", "clip", "schedule", "plateau"))]  # fmt: skip
# How the work is cut into pieces. Any cut gives the same values, as the tests of attention and of the vocabulary's loss
# show: another number here is slower, and no error.
CUTS = {
    "npora/nn/attention_plan.py": ("_runs", "_at_once", "_groups_at_once", "_queries_at_once", "_is_recomputed"),
    "npora/nn/vocabulary.py": ("_rows_at_once",),
}


def judges_of(path: str) -> Callable[[], Iterator[Callable[[], None]]]:
    """What yields the checks of which a mutant of this file must fail one."""
    return _optimizers if path.startswith("npora/optim") else _layers


def _layers() -> Iterator[Callable[[], None]]:
    from tests import test_contracts as contracts
    from tests.contracts import CASES

    by_case = [
        contracts.test_the_imaginary_part_of_a_complex_step_is_the_derivative,
        contracts.test_two_forwards_then_two_backwards_in_either_order_give_the_same_bits,
        contracts.test_backward_is_linear_in_the_upstream_gradient,
    ]
    by_module = [
        contracts.test_gradients_of_two_uses_add,
        contracts.test_a_frozen_layer_passes_the_same_gradient_on_and_keeps_its_bytes,
        contracts.test_a_checkpointed_layer_gives_the_same_bits,
        contracts.test_a_state_dict_round_trips,
    ]
    from npora.nn import Module

    cases = [case for case in CASES if case.name]
    modules = [case for case in cases if isinstance(case.build(), Module)]
    for test in by_case:
        yield from (partial(test, case) for case in cases)
    for test in by_module:
        yield from (partial(test, case) for case in modules)
    import numpy as np

    for dtype in (np.float32, np.float64, np.complex128):
        yield from (partial(contracts.test_outputs_and_gradients_have_the_dtype_of_the_inputs, c, dtype) for c in cases)
    for leading in ((), (0,), (6,), (2, 3)):
        yield from (
            partial(contracts.test_row_wise_layers_take_any_leading_axes, case, leading)
            for case in cases
            if case.row_wise
        )
    for case in cases:
        yield partial(contracts.test_the_pullback_passes_the_gradient_check, case, 0)
    yield from _properties()


def _tests_of(module: object) -> Iterator[Callable[[], None]]:
    """The tests of a module that take no fixture, with each of their parameters."""
    for name, function in vars(module).items():
        if name.startswith("test_"):
            rows = [_rows(mark) for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
            for chosen in itertools.product(*rows):
                given = {key: value for row in chosen for key, value in row.items()}
                if set(inspect.signature(function).parameters) == set(given):
                    yield partial(function, **given)


def _rows(mark: Any) -> list[dict[str, Any]]:
    """What a parametrize mark gives to a test, one dict a row."""
    names, values = mark.args[:2]
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    return [dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values]


def _properties() -> Iterator[Callable[[], None]]:
    from tests.lora import test_linear, test_lora_attention, test_methods, test_states, test_two_adapters
    from tests.models import (
        test_bert,
        test_checkpoint,
        test_classification_loss,
        test_decoder_classifiers,
        test_decoders,
        test_encoders,
        test_folder,
        test_generation,
        test_generation_config,
        test_generation_families,
        test_generation_options,
        test_generation_values,
        test_gpt2,
        test_gpt2_values,
        test_llama,
        test_rope,
        test_sampling,
        test_t5,
        test_t5_config,
        test_t5_rows,
        test_tokens,
    )  # fmt: skip
    from tests.nn import (
        test_attention_plan,
        test_broadcast_attention,
        test_contract,
        test_erf,
        test_readable,
        test_values,
    )
    from tests.properties import test_attention, test_gradients, test_identities, test_lora

    for module in (
        test_values,
        test_erf,
        test_linear,
        test_methods,
        test_two_adapters,
        test_lora_attention,
        test_states,
        test_bert,
        test_encoders,
        test_tokens,
        test_t5,
        test_t5_config,
        test_t5_rows,
        test_checkpoint,
        test_classification_loss,
        test_decoder_classifiers,
        test_decoders,
        test_rope,
        test_folder,
        test_generation,
        test_generation_config,
        test_generation_families,
        test_generation_options,
        test_generation_values,
        test_sampling,
        test_gpt2_values,
        test_gpt2,
        test_llama,
        test_identities,
        test_lora,
        test_attention,
        test_gradients,
        test_contract,
        test_readable,
        test_broadcast_attention,
        test_attention_plan,
    ):
        yield from _tests_of(module)


def _optimizers() -> Iterator[Callable[[], None]]:
    from tests.optim import test_clip_and_schedule, test_optimizers, test_schedules

    for make in test_optimizers.MAKERS.values():
        for test in (
            test_optimizers.test_frozen_parameters_and_those_without_a_gradient_are_left_alone,
            test_optimizers.test_updates_are_in_place_and_keep_the_dtype_and_the_gradient,
            test_optimizers.test_a_saved_and_loaded_state_goes_on_with_the_same_bits,
            test_optimizers.test_mirrored_gradients_give_mirrored_steps,
        ):
            yield partial(test, make)
    for module in (test_optimizers, test_clip_and_schedule, test_schedules):
        yield from _tests_of(module)
    for name in ("linear", "cosine"):
        yield partial(test_clip_and_schedule.test_a_schedule_of_one_step_ends_at_zero, name)


_LENGTHS = "another layer's cache is as long"
_GRID = "one row or column more than is read"
_MORE = "more candidates than are needed"
_FINER = "a finer grid, a wider one or a term more is as accurate"
_REST = "NumPy takes any negative size to mean the rest"
_LAST_OF_TWO = "of two axes the last is axis 1"
_MASKED = "a key more than a causal query sees: the mask hides it"
_ROOM = "what a buffer has room for beyond its rows is not read"
_AGAIN = "whether scores are kept or computed again, backward has the same"
_CUT = "any cut of the work gives the same values, and so does padding"
_WRONG = "asked where a gradient is wrong, by the diagnosis"
_ALL_SEEN = "the mask is then made, and is True throughout"
_NONE = "the divisor where nothing was summed"

_ALIKE = "the two are the same"
SURVIVORS: dict[str, str] = {
    "models/generate/beam.py: Finished.close: hope > worst: edge": "two sums of logarithms that differ are not equal",
    "models/generate/beam.py: Finished.close: self.penalty > 0: edge": "any length to the power of 0 is 1",
    "models/generate/beam.py: beam_search: 1: plus 1 #2": "of the beams to begin with only one is read",
    "models/generate/beam.py: beam_search: 1: plus 1 #10": _MORE,
    "models/generate/beam.py: beam_search: 2: plus 1": _MORE,
    "models/generate/beam.py: module: 1: plus 1": "no token is negative",
    "models/generate/generation.py: _follow: 1: plus 1 #2": "the best is the first of the two best",
    "models/generate/generation.py: _special_tokens: 0: plus 1": "without an end nothing is filled up",
    "models/families/distilbert.py: module: 1e-12: times 1.0001": "no variance is so near to the eps of LayerNorm",
    "models/families/llama.py: LlamaAttention.biases: return (config.attention_bias, config.attention_bias): "
        "first two swapped": _ALIKE,
    "models/families/mistral.py: MistralAttention.biases: return (False, False): first two swapped": _ALIKE,
    "models/families/gpt2.py: GPT2Attention.forward.backward: -1: without the sign": _LAST_OF_TWO,
    "models/tokens.py: check_positions: 1: plus 1 #2": "no rows have no position",
    "models/tokens.py: last_token_rows: np.arange(ids.shape[1]) * (ids != pad_token_id): times 1.0005":
        "the largest stays the largest",
    "models/relative.py: relative_bias: 0: plus 1": _LENGTHS,
    "models/relative.py: relative_bias: 0: plus 1 #2": _GRID,
    "models/relative.py: relative_bias: 0: plus 1 #3": _GRID,
    "models/relative.py: relative_bias: 0: plus 1 #4": _LENGTHS,
    "models/relative.py: relative_buckets: r < exact: edge": "at r = n/2 both formulas give n/2",
    "models/families/t5_stack.py: T5CrossAttention.forward: 0: plus 1":
        "a row that belongs to no sequence is not remembered",
    "nn/activation.py: sigmoid: 700: plus 1": "e⁻⁷⁰¹ is nothing, as e⁻⁷⁰⁰ is",
    "nn/attention.py: MultiHeadAttention.forward: -1: without the sign": _LAST_OF_TWO,
    "nn/cache.py: _grown: 0: plus 1": _ROOM,
    "nn/cache.py: _grown: 0: plus 1 #2": _ROOM,
    "nn/cache.py: _grown: 2 * old: left alone": _ROOM,
    "nn/cache.py: _grown: 2 * old: right alone": _ROOM,
    "nn/cache.py: _grown: 2: plus 1": _ROOM,
    "nn/cache.py: _grown: needed <= old: edge": _ROOM,
    "nn/dropout.py: dropout: 0.0: plus 1": "p = 1 keeps nothing, and any multiple of nothing is nothing",
    "nn/dropout.py: dropout: words.view(np.uint16)[:x.size] >= drop: edge": "sixteen bits equal p once in 2¹⁶",
    "nn/erf.py: _taylor_table: 1: plus 1 #3": _GRID,
    "nn/erf.py: _taylor_table: _BOUND * _STEPS_PER_UNIT: times 1.0005": _GRID,
    "nn/erf.py: erf: np.fmax(np.fmin(x, _BOUND), -_BOUND) * _STEPS_PER_UNIT: times 1.0005":
        "between two grid points either may be expanded around",
    "nn/erf.py: module: 3: plus 1": _FINER,
    "nn/erf.py: module: 64: plus 1": _FINER,
    "nn/erf.py: module: 6: plus 1": _FINER,
    "nn/erf.py: module: 7: plus 1": _FINER,
    "nn/loss.py: binary_cross_entropy: 0: plus 1": "between 0 and 1, too: z + log(1 + e^(−z)) = log(1 + e^z)",
    "nn/loss.py: binary_cross_entropy: 1: plus 1": _NONE,
    "nn/loss.py: binary_cross_entropy: logits.real > 0: edge": "at 0 both sides are log 2",
    "nn/loss.py: mse_loss: 1: plus 1": _NONE,
    "nn/cross_entropy.py: _softmax: -1: without the sign": _LAST_OF_TWO,
    "nn/cross_entropy.py: cross_entropy: -1: without the sign": _LAST_OF_TWO,
    "nn/cross_entropy.py: cross_entropy: -1: without the sign #2": _LAST_OF_TWO,
    "nn/cross_entropy.py: cross_entropy: z[counted].mean(axis=-1): axis=None": "summed over the rows afterwards",
    "nn/attention_plan.py: module: 32: plus 1": _CUT,
    "nn/attention_plan.py: _seen_from: seen.max(initial=0): max -> min": _CUT,
    "nn/attention_plan.py: Block.mask: self.first > self.keys.start: edge": _ALL_SEEN,
    "nn/attention_plan.py: _seen_from: 0: plus 1 #2": _CUT,
    "lora/adapter.py: Adapter.factors: return {}: negated": _WRONG,
    "lora/adapter.py: Adapter.identities: return iter(()): negated": "every method states an identity",
    "lora/methods/lora.py: LoRA.factors: return {'α/r': self.s, 'r': float(self.r)}: negated": _WRONG,
    "nn/attention_plan.py: _between: 0: plus 1": "where no key is seen, one that is masked gives zeros too",
    "nn/attention.py: MultiHeadAttention.forward: 0: plus 1": "softmax does not see what all visible keys have more",
    "nn/attention_plan.py: _seen_from: keys.stop - keys.start: sign": _ALL_SEEN,
    "nn/attention_plan.py: _seen_from: keys.stop - keys.start: left alone": _ALL_SEEN,
    "nn/attention_plan.py: _seen_from: keys.stop - keys.start: right alone": _ALL_SEEN,
    "nn/packed_attention.py: packed_attention.backward: tasks if dB is None else [lambda: [task() for task in tasks]]:"
    " condition turned round": "on one thread the pieces come in their order either way",
    "lora/adapter.py: Adapter.fits: return isinstance(config, cls.config_class) and kind in cls.adapts: negated":
        "minus true is as true",
    "nn/scaled_attention.py: _queries_and_keys_balance: 1: plus 1": _REST,
    "nn/scaled_attention.py: _queries_and_keys_balance: 1: plus 1 #2": _REST,
    "nn/scaled_attention.py: attention: dropout_p > 0: edge": "dropping with p = 0 drops nothing",
    "nn/softmax.py: softmax: 0: plus 1": "a row without a visible key has no value to shift",
    "nn/softmax.py: softmax: 1: plus 1": _NONE,
    "optim/schedule.py: _warmup_stable_decay.factor: step < begin: edge": "every decay begins at 1",
    "optim/clip.py: clip_grad_norm: scale < 1: edge": "scaling by exactly 1 changes nothing",
}  # fmt: skip
