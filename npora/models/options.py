"""Keywords that transformers has: what those of `from_pretrained` mean here, and which of them, and of those of saving
and of calling a model, mean nothing here."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.files.gguf_header import is_gguf
from npora.files.refusal import shortened
from npora.models.config import PretrainedConfig
from npora.models.numbers import AS_IT_LIES, NUMBERS, numbers_of

logger = logging.getLogger("npora")

# Keywords of transformers without a meaning here: the values that ask for nothing, and what to do about another.
_DEVICES = (None, "auto", "cpu", {"": "cpu"})
_MEANINGLESS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "adapter_kwargs": ((None, {}), "load the adapter with PeftModel.from_pretrained"),
    "attn_implementation": ((None, "eager", "sdpa"), "npora has one attention, which is exact"),
    "config": ((None,), "pass the fields of the config that are to be others as keywords"),
    "device_map": (_DEVICES, "npora computes on the processor"),
    "force_download": ((None, False), "remove the model from the hub's cache instead"),
    "from_flax": ((None, False), "npora reads safetensors alone"),
    "from_tf": ((None, False), "npora reads safetensors alone"),
    "generation_config": ((None,), "assign model.generation_config's attributes, or pass them to generate"),
    "gguf_file": ((None,), "pass the file's own path in the place of its folder's"),
    "load_in_4bit": ((None, False), "pass quantize='nf4'"),
    "load_in_8bit": ((None, False), "pass quantize='int8'"),
    "low_cpu_mem_usage": ((None, False, True), ""),  # weights are read-only maps of their file in any case
    "max_memory": ((None,), "npora maps the weights from their file"),
    "offload_folder": ((None,), "npora maps the weights from their file"),
    "offload_state_dict": ((None, False), "npora maps the weights from their file"),
    "output_attentions": ((None, False), "npora returns no attention weights"),
    "output_hidden_states": ((None, False), "ask for them in the call: model(…, output_hidden_states=True)"),
    "output_loading_info": ((None, False), "model.newly_initialized names what the checkpoint lacked"),
    "proxies": ((None,), "set the environment variable HTTPS_PROXY"),
    "quantization_config": ((None,), "pass quantize='nf4' or quantize='int8'"),
    "resume_download": ((None, False, True), ""),  # downloads are resumed in any case
    "return_dict": ((None, True), "npora returns an output with names, and its pullback"),
    "state_dict": ((None,), "call model.load_state_dict afterwards"),
    "subfolder": ((None, ""), "pass the directory itself"),
    "tp_plan": ((None,), "npora computes on the processor"),
    "trust_remote_code": ((None, False, True), ""),  # no code of a checkpoint is run: that there is some is logged
    "use_auth_token": ((None, False, True), "its name is token"),
    "use_safetensors": ((None, True), "npora reads safetensors alone"),
    "variant": ((None,), "npora reads model.safetensors, or the shards of model.safetensors.index.json"),
    "weights_only": ((None, True), "npora never unpickles"),
}  # fmt: skip
_OF_SAVING: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "is_main_process": ((True,), "npora has one process"),
    "max_shard_size": ((None,), "npora writes one file"),
    "push_to_hub": ((False,), "upload the directory with: hf upload"),
    "safe_serialization": ((None, True), "npora writes safetensors alone"),
    "state_dict": ((None,), "npora writes the model's own"),
    "token": ((None,), "npora writes to a directory"),
    "variant": ((None,), "npora writes model.safetensors"),
}
_CACHED = "generate keeps keys and values itself"
_OF_CALLING: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "bool_masked_pos": ((None,), "npora masks no patch"),
    "cache_position": ((None,), _CACHED),
    "decoder_inputs_embeds": ((None,), "give decoder_input_ids"),
    "encoder_outputs": ((None,), "give input_ids: the encoder is run"),
    "head_mask": ((None,), "npora masks no head"),
    "interpolate_pos_encoding": ((None, False), "resize the images to the model's image_size"),
    "logits_to_keep": ((None, 0), "with labels a loss computes the logits that it needs alone"),
    "output_attentions": ((None, False), "npora returns no attention weights"),
    "past_key_values": ((None,), _CACHED),
    "return_dict": ((None, True), "npora returns an output with names, and its pullback"),
    "use_cache": ((None, False), _CACHED),
}
_HARMLESS = ("use_cache",)  # fields of transformers' configs that people set, and that are kept
_OWN = ("dtype", "seed", "revision", "cache_dir", "local_files_only", "token", "torch_dtype", "ignore_mismatched_sizes",
        "quantize")  # fmt: skip
_CLASSES = ("num_labels", "id2label", "label2id")
_TORCH = {"float": "float32", "half": "float16", "double": "float64"}  # torch's other names, where NumPy's differ


def config_fields(
    config_class: type[PretrainedConfig], keywords: Mapping[str, Any], in_file: Collection[str]
) -> dict[str, Any]:
    """Those of the keywords that are fields of a config: of the family's, or others that its file holds.

    Raises
    ------
    TypeError: a keyword that is neither; near names are listed.  ValueError: one of transformers' that asks for what
    has no meaning here.
    """
    chosen: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in _MEANINGLESS:
            _refuse_meaning(name, value, *_MEANINGLESS[name])
        elif config_class.knows(name) or name in in_file or name in _HARMLESS:
            chosen[name] = value
        else:
            known = [*_OWN, *_MEANINGLESS, *(f.name for f in fields(config_class)), *in_file]
            raise TypeError(unknown_keyword("from_pretrained", name, known))
    return chosen


def refuse_of_saving(function: str, keywords: Mapping[str, Any]) -> None:
    """Raise for the keywords of a function that saves: TypeError for an unknown one, ValueError for one of
    transformers' that asks for what has no meaning here."""
    for name, value in keywords.items():
        if name not in _OF_SAVING:
            raise TypeError(unknown_keyword(function, name, _OF_SAVING))
        _refuse_meaning(name, value, *_OF_SAVING[name])


def refuse_of_calling(model: str, keywords: Mapping[str, Any], inputs: Collection[str]) -> None:
    """The same for a model that is called, and that takes these inputs."""
    for name, value in keywords.items():
        if name not in _OF_CALLING:
            raise TypeError(f"{unknown_keyword(model, name, inputs)}; it takes {', '.join(inputs)}: leave {name} out")
        _refuse_meaning(name, value, *_OF_CALLING[name])


def _refuse_meaning(name: str, value: Any, idle: Collection[Any], remedy: str) -> None:
    if not any(type(value) is type(other) and value == other for other in idle):
        raise ValueError(f"{name}={value!r} has no meaning in npora: {remedy or 'leave it out'}")


def unknown_keyword(function: str, name: str, known: Collection[str]) -> str:
    """What to say of a keyword that a function does not have."""
    others = {other for other in known if not other.startswith("_")}
    near = difflib.get_close_matches(name, sorted(others), n=3, cutoff=0.6)
    return f"{function}() got an unexpected keyword argument {name!r}" + (
        f"; near names: {', '.join(near)}" if near else ""
    )


def overruled(
    config_class: type[PretrainedConfig], in_file: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """What the file says, and in its place what the caller chose, under whichever of a field's names.

    What is chosen of num_labels, id2label and label2id replaces all that the file says of classes; its own names stay
    where there are as many as the caller's num_labels. Names that contradict each other in the file are logged.

    Raises
    ------
    ValueError: the caller's label2id is not the inverse of his id2label.
    """
    for name in ("id2label", "label2id"):
        if not isinstance(in_file.get(name) or {}, Mapping):
            raise ValueError(f"config: {name} must be an object; got {shortened(in_file[name])}")
    names = config_class.aliases
    replaced = {names.get(name, name) for name in chosen}
    values = {key: value for key, value in in_file.items() if names.get(key, key) not in replaced}
    asked = {name: chosen[name] for name in _CLASSES if chosen.get(name) is not None}
    theirs = in_file.get("id2label") or {}
    if asked.keys() - {"num_labels"} or asked.get("num_labels", len(theirs)) != len(theirs):
        asked = {**dict.fromkeys(_CLASSES), **asked}
    else:
        asked = {name: in_file[name] for name in _CLASSES if name in in_file} | asked
        _say_where_names_contradict(theirs, in_file.get("label2id") or {})
    if asked.get("label2id"):
        inverse = {str(number): name for name, number in asked["label2id"].items()}
        asked["id2label"] = asked.get("id2label") or inverse
        if "label2id" in chosen and inverse != {str(number): name for number, name in asked["id2label"].items()}:
            raise ValueError(f"label2id {asked['label2id']} is not the inverse of id2label {asked['id2label']}")
    return {**values, **chosen, **asked}


def _say_where_names_contradict(id2label: Mapping[str, Any], label2id: Mapping[str, Any]) -> None:
    inverse = {str(number): str(name) for name, number in label2id.items()}
    if inverse and inverse != {str(number): str(name) for number, name in id2label.items()}:
        logger.warning("config.json: label2id %s is not the inverse of id2label %s", label2id, id2label)


def asked_numbers(dtype: npt.DTypeLike | str | None, torch_dtype: Any, folder: str) -> str:
    """float32, float64, bfloat16 or float16, of NumPy's names, torch's, or "auto": the widest of them that the folder's
    weights are in.

    Raises
    ------
    ValueError: another dtype; two that differ.
    """
    asked = {_name(value) for value in (dtype, torch_dtype) if value is not None}
    if len(asked) > 1:
        raise ValueError(f"dtype={dtype!r} and its older name torch_dtype={torch_dtype!r} ask for different ones")
    name = asked.pop() if asked else "auto" if is_gguf(folder) else "float32"
    if name == "auto":
        name = numbers_of(folder)
    if name not in (*NUMBERS, AS_IT_LIES):
        raise ValueError(f"dtype must be {', '.join(NUMBERS[:-1])} or {NUMBERS[-1]}; got {name}")
    return name


def _name(dtype: Any) -> str:
    if str(dtype).startswith("torch."):  # one of torch's, known by its name: torch itself is not needed
        dtype = str(dtype).removeprefix("torch.")
    name = str(dtype)
    try:
        return str(np.dtype(_TORCH.get(name, name) if isinstance(dtype, str) else dtype).name)
    except TypeError:
        return name
