"""What a checkpoint says about generation: its `generation_config.json`, and which tokens end a text."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from numbers import Integral
from types import SimpleNamespace
from typing import Any

from npora.files import read_json, write_json
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import naming, shortened
from npora.models.config import CONFIG_NAME
from npora.models.options import unknown_keyword

GENERATION_CONFIG_NAME = "generation_config.json"

# What `generate` does: the value where neither the caller nor the checkpoint says anything, the kind of value, and of
# counts the least that they may be. max_length goes before max_new_tokens where it alone is given.
_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "max_new_tokens": (20, "int", 1), "max_length": (None, "int", 1), "do_sample": (False, "bool"),
    "temperature": (1.0, "float"), "top_k": (50, "int"), "top_p": (1.0, "float"), "num_beams": (1, "int", 1),
    "eos_token_id": (None, "int | list[int]"), "pad_token_id": (None, "int"), "decoder_start_token_id": (None, "int"),
    "use_cache": (True, "bool"), "length_penalty": (1.0, "float"), "early_stopping": (False, "bool | str"),
    "num_return_sequences": (1, "int", 1), "repetition_penalty": (1.0, "float"), "no_repeat_ngram_size": (0, "int", 0),
    "min_length": (0, "int", 0), "min_new_tokens": (None, "int", 0), "min_p": (None, "float"),
    "typical_p": (1.0, "float"), "epsilon_cutoff": (0.0, "float"), "bad_words_ids": (None, "list[list[int]]"),
    "sequence_bias": (None, "Any"), "suppress_tokens": (None, "list[int]"),
    "begin_suppress_tokens": (None, "list[int]"), "forced_bos_token_id": (None, "int"),
    "forced_eos_token_id": (None, "int | list[int]"), "prefix_allowed_tokens_fn": (None, "Any"),
    "logits_processor": (None, "Any"), "max_time": (None, "float"), "stop_strings": (None, "str | list[str]"),
    "stopping_criteria": (None, "Any"), "renormalize_logits": (False, "bool"),
}  # fmt: skip
DEFAULTS: Mapping[str, Any] = {name: default for name, (default, *_) in _OPTIONS.items()}
# What `generate` of transformers can do besides, with the values that ask for nothing.
_NOT_DONE: Mapping[str, tuple[Any, ...]] = {
    "assistant_early_exit": (), "assistant_model": (), "constraints": ([],), "diversity_penalty": (0,),
    "dola_layers": (), "encoder_no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1,), "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (), "force_words_ids": ([],), "forced_decoder_ids": ([],),
    "generation_config": (), "guidance_scale": (1,), "negative_prompt_ids": (), "num_beam_groups": (1,),
    "output_attentions": (False,), "output_hidden_states": (False,), "output_logits": (False,),
    "output_scores": (False,), "penalty_alpha": (0,), "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (False,), "return_dict_in_generate": (False,), "synced_gpus": (False,),
    "token_healing": (False,), "top_h": (), "use_mtp": (False,), "watermarking_config": (),
}  # fmt: skip
# What config.json has in any case: alone it makes no generation config, and is looked up there.
_OF_MODELS = {"eos_token_id", "pad_token_id", "decoder_start_token_id", "use_cache", "output_attentions",
              "output_hidden_states"}  # fmt: skip
_OWN = ("attention_mask", "seed", "streamer", "tokenizer", *DEFAULTS)


class GenerationConfig(SimpleNamespace):
    """What `generate` does unless it is told otherwise: attributes with transformers' names, of those that are said.

    What a file holds beside them is kept.
    """

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], config: Mapping[str, Any]) -> GenerationConfig:
        """Of `generation_config.json`; where there is none, of the fields of a config.json that older files use.

        Raises
        ------
        ValueError: a file that is broken, or a value of another kind than its field.
        """
        path = os.path.join(folder, GENERATION_CONFIG_NAME)
        if os.path.lexists(path):
            values = read_json(path)
            with naming(path):
                _check_kinds(values)
            return cls(**values)
        older = {name: v for name, v in config.items() if name in {*DEFAULTS, *_NOT_DONE} and v is not None}
        with naming(os.path.join(folder, CONFIG_NAME)):
            _check_kinds(older)
        return cls(**older) if older.keys() - _OF_MODELS else cls()

    def __getattr__(self, name: str) -> Any:
        """None for what is not said."""
        if name not in DEFAULTS and name not in _NOT_DONE and not name.endswith("token_id"):
            raise AttributeError(f"GenerationConfig has no field {name!r}")
        return None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `generation_config.json`, where something is said."""
        if values := self.to_dict():
            write_json(os.path.join(folder, GENERATION_CONFIG_NAME), values)


def _check_kinds(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        kind = f"{_OPTIONS[name][1]} | None" if name in _OPTIONS else "Any"
        if not is_of_kind(value, kind):
            expected = "a token's number" if name.endswith("token_id") else called(kind)
            raise ValueError(f"{name} must be {expected}; got {shortened(value)}")
        _check_count(name, value)
        if hasattr(GenerationConfig, name):
            raise ValueError(f"a field cannot be called {name}")


def chosen_options(said: GenerationConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each of DEFAULTS: what the caller asks for (None: nothing), else what is said, else the default.

    Raises
    ------
    TypeError: the caller's keyword is none of transformers'; near names are listed.
    ValueError: the caller or the checkpoint asks for what npora does not do, or names no token by its number.
    """
    for name in asked:
        if name not in DEFAULTS and name not in _NOT_DONE:
            raise TypeError(unknown_keyword("generate", name, [*_OWN, *_NOT_DONE]))
    for name, idle in _NOT_DONE.items():
        if not _is_idle(value := asked.get(name), idle):
            remedy = "pass its fields by name" if name == "generation_config" else "leave it out"
            raise ValueError(f"generate: {name}={value!r} is not supported by npora; {remedy}")
        if name not in asked and not _is_idle(value := getattr(said, name), idle):
            nothing = idle[0] if idle else None
            raise ValueError(
                f"this model's generation config says {name}={value!r}, which npora does not do: to go without it pass "
                f"{name}={nothing!r}"
            )
    options = {}
    for name, default in DEFAULTS.items():
        value = asked.get(name)
        options[name] = value if value is not None else default if getattr(said, name) is None else getattr(said, name)
        _check_token(name, options[name])
        _check_count(name, options[name])
    if asked.get("max_length") is not None and asked.get("max_new_tokens") is None:
        options["max_new_tokens"] = None  # the caller's own limit
    elif asked.get("max_new_tokens") is not None or said.max_new_tokens is not None:
        options["max_length"] = None
    elif options["max_length"] is not None:
        options["max_new_tokens"] = None
    return options


def _check_token(name: str, value: Any) -> None:
    """Raise ValueError where a token is named otherwise than by its number; there may be several that end a text."""
    tokens = list(value) if isinstance(value, list | tuple) and name.endswith("eos_token_id") else [value]
    if name.endswith("token_id") and any(
        token is not None and (isinstance(token, bool) or not isinstance(token, Integral)) for token in tokens
    ):
        raise ValueError(f"generate: {name} must be a token's number; got {value!r}")


def _check_count(name: str, value: Any) -> None:
    for least in _OPTIONS.get(name, ())[2:]:
        if value is not None and (value != int(value) or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")


def _is_idle(value: Any, idle: Collection[Any]) -> bool:
    return value is None or any(value == other for other in idle)


def text_ends(model: Any, tokenizer: Any = None) -> list[int]:
    """The ids of the tokens that end a text for this model: those at which `generate` stops.

    They are what its generation config says, else its config, else the tokenizer's; none where none says.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for said in (getattr(base, "generation_config", None), base.config, tokenizer):
        ends = getattr(said, "eos_token_id", None)
        if ends is not None:
            return [int(end) for end in (ends if isinstance(ends, list | tuple) else [ends])]
    return []


def text_end(model: Any, tokenizer: Any = None) -> int:
    """The token to put behind a text that this model is to learn: the tokenizer's where `generate` stops at it, else
    the first at which it does.

    Raises
    ------
    ValueError: there is none.
    """
    ends = text_ends(model, tokenizer)
    own = getattr(tokenizer, "eos_token_id", None)
    if not ends:
        raise ValueError("neither the model's configs nor the tokenizer name a token that ends a text (eos_token_id)")
    return own if own in ends else ends[0]
