"""The files in which sentence-transformers says how a model's rows become one vector: modules.json and others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npora.files import read_json, write_json
from npora.files.json import read_json_list

POOLINGS = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}  # names, and as the files have them
_MODULES, _SETTINGS = "modules.json", "sentence_bert_config.json"
_TYPE = "sentence_transformers.models."


@dataclass(frozen=True)
class EmbeddingForm:
    """pooling : mean, cls (the first token) or lasttoken; normalize : to length 1; max_seq_length : of tokens"""

    pooling: str = "mean"
    normalize: bool = False
    max_seq_length: int | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be {', '.join(POOLINGS)}; got {self.pooling!r}")


def read_form(folder: str) -> EmbeddingForm:
    """What a folder says; where it has no modules.json, the mean of all tokens, as sentence-transformers begins.

    Raises
    ------
    ValueError: modules that npora does not have, by name (a Dense layer, a maximum over tokens, prompts put before
    every text, lower case), or files that are broken.
    """
    path = os.path.join(folder, _MODULES)
    if not os.path.isfile(path):
        return EmbeddingForm()
    modules = read_json_list(path)
    if not all(isinstance(m, Mapping) and {"type", "path"} <= m.keys() for m in modules):
        raise ValueError(f"{path}: modules with type and path were expected")
    names = [str(module["type"]).rpartition(".")[2] for module in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"{path} has the modules {', '.join(names)}: npora has Transformer, Pooling and, or not, Normalize, in "
            "this order. Pass pooling and normalize yourself if another form will do"
        )
    if modules[0]["path"]:
        raise ValueError(f"{path}: the transformer itself is in {modules[0]['path']!r}: name that folder")
    _refuse_prompts(os.path.join(folder, "config_sentence_transformers.json"))
    settings = _read(os.path.join(folder, _SETTINGS))
    if settings.get("do_lower_case"):
        raise ValueError(
            f"{os.path.join(folder, _SETTINGS)}: do_lower_case is not implemented; the tokenizer may do it"
        )
    most = settings.get("max_seq_length")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(f"{os.path.join(folder, _SETTINGS)}: max_seq_length must be a whole number; got {most!r}")
    place = os.path.join(folder, str(modules[1]["path"]), "config.json")
    return EmbeddingForm(_pooling(read_json(place), place), len(names) == 3, most)


def write_form(folder: str | os.PathLike[str], form: EmbeddingForm, width: int) -> None:
    """Write a form as sentence-transformers reads it, beside a model of this width."""
    kinds = ["Transformer", "Pooling", *["Normalize"] * form.normalize]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": _TYPE + kind}
        for i, kind in enumerate(kinds)
    ]
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    pooling = {f"pooling_mode_{name}": own == form.pooling for own, name in POOLINGS.items()}
    write_json(os.path.join(folder, "1_Pooling", "config.json"), {"word_embedding_dimension": width, **pooling})
    if form.max_seq_length is not None:
        write_json(os.path.join(folder, _SETTINGS), {"max_seq_length": form.max_seq_length, "do_lower_case": False})
    if form.normalize:
        os.makedirs(os.path.join(folder, "2_Normalize"), exist_ok=True)
    write_json(os.path.join(folder, _MODULES), modules)


def _pooling(config: Mapping[str, Any], path: str) -> str:
    beginning = "pooling_mode_"
    chosen = [name.removeprefix(beginning) for name, on in config.items() if name.startswith(beginning) and on]
    found = next((own for own, name in POOLINGS.items() if chosen == [name]), None)
    if found is None:
        raise ValueError(
            f"{path}: the pooling is {' and '.join(chosen) or 'none'}; npora has {', '.join(POOLINGS.values())}"
        )
    return found


def _read(path: str) -> Mapping[str, Any]:
    return read_json(path) if os.path.isfile(path) else {}


def _refuse_prompts(path: str) -> None:
    if (name := _read(path).get("default_prompt_name")) is not None:
        raise ValueError(f"{path}: the prompt {name!r} is to stand before every text, which is not implemented")
