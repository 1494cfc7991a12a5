"""A tokenizer from a checkpoint: what its files say beside the vocabulary."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from npora.data.backend import FILE, MOST_BYTES, add_tokens, read_backend, refusing
from npora.data.bytes import OWN_CLASS, ByteTokenizer
from npora.data.classes import CLASSES, surround
from npora.data.gguf_tokenizer import read_gguf_tokenizer
from npora.data.roles import ROLES
from npora.data.settings import check_token, read_settings
from npora.data.tokenizer import Tokenizer
from npora.files import read_json, resolve
from npora.files.gguf_header import is_gguf
from npora.files.refusal import naming
from npora.files.regular import read_regular

# Where neither file nor class names the token of a role, it is the first of these that the vocabulary has.
_USUAL = {
    "bos_token": ("<s>", "<|endoftext|>"), "eos_token": ("</s>", "<|endoftext|>"),
    "unk_token": ("[UNK]", "<unk>", "<|endoftext|>"), "sep_token": ("[SEP]",), "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]",), "mask_token": ("[MASK]", "<mask>"),
}  # fmt: skip
_SETTINGS = (
    *ROLES, "model_max_length", "padding_side", "truncation_side", "add_prefix_space", "do_lower_case", "strip_accents",
    "tokenize_chinese_chars", "trim_offsets", "legacy", "add_bos_token", "add_eos_token", "split_special_tokens",
    "clean_up_tokenization_spaces", "extra_special_tokens", "additional_special_tokens", "model_input_names",
    "chat_template",
)  # fmt: skip
_OF_THE_HUB = ("revision", "cache_dir", "local_files_only", "token", "trust_remote_code")
# Of the options that scripts pass, these ask for nothing but what happens anyway: a fast tokenizer, a warning less.
_IDLE = ("use_fast", "verbose")
_MEANINGLESS = {
    "device_map": "arrays are the processor's", "torch_dtype": "ids are whole numbers",
    "dtype": "ids are whole numbers",
    "padding": "pass it where the tokenizer is called", "truncation": "pass it where the tokenizer is called",
    "max_length": "pass it where the tokenizer is called, or model_max_length here",
    "return_tensors": "pass it where the tokenizer is called", "subfolder": "pass the folder's own path",
    "gguf_file": "pass the file's own path", "use_auth_token": "it is called token now",
    "tokenizer_type": "write tokenizer_class into tokenizer_config.json", "config": "the folder's config.json is read",
    "force_download": "clear the hub's cache", "proxies": "set HTTPS_PROXY",
}  # fmt: skip
_MOST_TEMPLATE = 10_000_000  # bytes
_NO_LIMIT = 10**9  # files say 10³⁰ for none
_BACKENDS = ("", "pretrained", "tokenizersbackend", "python")  # any model's


class AutoTokenizer:
    """Chooses the tokenizer by the files of a checkpoint."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        local_files_only: bool = False,
        token: str | bool | None = None,
        trust_remote_code: bool | None = None,
        **options: Any,
    ) -> Tokenizer:
        """Read `tokenizer.json`, or the older vocabulary files, and the settings beside them. Ids are transformers'.

        name_or_path : a directory, a GGUF file, or a name on the Hugging Face hub, whose weights are then not fetched
        local_files_only, token : of the hub, where the name is one there
        trust_remote_code : code of a checkpoint never runs; where it has a tokenizer's, True is an error
        options : in place of the files' own: pad_token and the like, model_max_length, padding_side, truncation_side,
            add_prefix_space, do_lower_case, strip_accents, tokenize_chinese_chars, add_bos_token, add_eos_token,
            legacy, split_special_tokens, clean_up_tokenization_spaces, extra_special_tokens, model_input_names,
            chat_template

        Raises
        ------
        FileNotFoundError: no such checkpoint, or none of a tokenizer's files in it.  ValueError: a broken file.
        TypeError: an option that there is not.  ImportError: the `tokenizers` package is missing.
        """
        options = _checked(options)
        directory = resolve(
            name_or_path, revision, cache_dir, weights=False, local_files_only=local_files_only, token=token
        )
        name = os.fspath(name_or_path)
        if is_gguf(directory):
            with refusing(directory):
                backend, family, said, numbered = read_gguf_tokenizer(directory)
                return _finished(backend, family, said | options, numbered, directory, family, name)
        config = read_settings(directory, "tokenizer_config.json")
        if trust_remote_code and "auto_map" in config:
            raise ValueError(f"{directory} brings a tokenizer of its own as code, and npora runs no checkpoint's code")
        with refusing(directory):
            return _of_directory(directory, config, options, name)


def _of_directory(directory: str, config: dict[str, Any], options: dict[str, Any], name: str) -> Tokenizer:
    whole = os.path.isfile(os.path.join(directory, FILE))
    if whole:  # what stands around a text is in there, and these two may be older
        config = {key: value for key, value in config.items() if key not in ("add_bos_token", "add_eos_token")}
    if "added_tokens_decoder" not in config:  # files that have it repeat themselves in the map
        config |= read_settings(directory, "special_tokens_map.json")
    config = _as_read(config | options)
    if config.get(OWN_CLASS) == ByteTokenizer.__name__:
        return ByteTokenizer.from_config(config, _length(config))
    wanted = _family(directory, config)
    backend, family = read_backend(directory, wanted, config)
    for kind, side in (("padding", "padding_side"), ("truncation", "truncation_side")):
        if (fixed := getattr(backend, kind)) is not None:
            config.setdefault(side, fixed["direction"].lower())
    numbered, where = _numbered(directory, config)
    if (template := _chat_template(directory, config)) is not None:
        config["chat_template"] = template
    return _finished(backend, family, config, numbered, where, wanted, name, whole)


def _finished(
    backend: Any,
    family: str | None,
    config: dict[str, Any],
    numbered: Mapping[int, Any],
    where: str,
    wanted: str | None,
    name: str,
    whole: bool = True,
) -> Tokenizer:
    """The tokenizer of a backend, with its special tokens and settings.

    numbered : the tokens that files number, and `where` they do; wanted : the class that they name, whoever built it
    whole : the files of the vocabulary have the special tokens too
    """
    special = _special_tokens(backend, family, config)
    settings = {token: config[role] for role, token in special.items() if config.get(role) is not None}
    # What tokenizer.json has as a common word stays one, unless a file says that it has a role.
    named = [settings.get(t, t) for r, t in special.items() if r in config or family or not whole]
    extra = _extra(backend, family, config)
    add_tokens(backend, numbered, named, extra, where)
    if config.get("add_bos_token") is not None or config.get("add_eos_token") is not None:
        ends = (config.get("add_bos_token"), "bos_token"), (config.get("add_eos_token"), "eos_token")
        surround(backend, *(special.get(role) if wanted else None for wanted, role in ends))
    if family is not None and (finish := CLASSES[family].finish) is not None:
        finish(backend, special, config)
    backend.encode_special_tokens = bool(config.get("split_special_tokens", False))
    inputs = config.get("model_input_names")
    takes_types = _has_types(backend, wanted) if inputs is None else "token_type_ids" in inputs
    return Tokenizer(
        backend,
        special,
        model_max_length=_length(config),
        padding_side=config.get("padding_side", CLASSES[family].padding_side if family else "right"),
        truncation_side=config.get("truncation_side", "right"),
        token_type_ids=takes_types,
        clean_up_tokenization_spaces=bool(config.get("clean_up_tokenization_spaces", False)),
        extra_special_tokens=[_content(token) for token in extra],
        name_or_path=name,
        config=config | {"tokenizer_class": _class_name(family, config)},
        chat_template=config.get("chat_template"),
    )


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name in _MEANINGLESS:
            raise TypeError(f"{name} has no meaning for a tokenizer here: {_MEANINGLESS[name]}")
        if name not in _SETTINGS and name not in _IDLE:
            near = difflib.get_close_matches(name, (*_SETTINGS, *_OF_THE_HUB), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"options are {', '.join(_SETTINGS)}"
            raise TypeError(f"AutoTokenizer.from_pretrained has no option {name!r}; {hint}")
    for side in ("padding_side", "truncation_side"):
        if options.get(side, "right") not in ("right", "left"):
            raise ValueError(f"{side} must be 'right' or 'left'; got {options[side]!r}")
    return {name: value for name, value in options.items() if name not in _IDLE}


def _as_read(config: dict[str, Any]) -> dict[str, Any]:
    """An older name of a setting under its present one."""
    if config.get("additional_special_tokens") is not None and not config.get("extra_special_tokens"):
        config["extra_special_tokens"] = config.pop("additional_special_tokens")
    if "max_len" in config:
        config.setdefault("model_max_length", config.pop("max_len"))
    return config


def _family(directory: str, config: Mapping[str, Any]) -> str | None:
    """The tokenizer's class without its ending, in lower case; else the model_type; else None."""
    model = read_settings(directory, "config.json")
    name = config.get("tokenizer_class") or model.get("tokenizer_class")
    if name:
        family = str(name).lower().removesuffix("fast").removesuffix("tokenizer")
        if family not in _BACKENDS or os.path.isfile(os.path.join(directory, FILE)):
            return family
    model_type = model.get("model_type")
    # A Llama's tokenizer.json is its tokenizer unless a file names the class: they are of several kinds.
    return None if model_type == "llama" else model_type


def _class_name(family: str | None, config: Mapping[str, Any]) -> str:
    """The class to write beside the saved tokenizer, so that others build it as here."""
    names = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "gpt2": "GPT2", "llama": "Llama"}
    return "PreTrainedTokenizerFast" if family is None else f"{names.get(family, family.upper())}Tokenizer"


def _numbered(directory: str, config: Mapping[str, Any]) -> tuple[dict[int, Any], str]:
    """The added tokens by their ids, and the file that says it."""
    if "added_tokens_decoder" in config:
        decoder = {int(number): token for number, token in config["added_tokens_decoder"].items()}
        return decoder, os.path.join(directory, "tokenizer_config.json")
    numbered: dict[int, Any] = {}
    special = {_content(config[role]) for role in ROLES if config.get(role) is not None}
    for content, number in read_settings(directory, "added_tokens.json").items():
        numbered[number] = {"content": content, "special": content in special, "normalized": content not in special}
    where = os.path.join(directory, "added_tokens.json")
    if os.path.isfile(path := os.path.join(directory, FILE)):
        for token in read_json(path, MOST_BYTES).get("added_tokens") or ():
            check_token(path, "a token of added_tokens", token)
            numbered[token["id"]] = token
        where = path if not numbered else where
    return numbered, where


def _content(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _special_tokens(backend: Any, family: str | None, config: Mapping[str, Any]) -> dict[str, str]:
    usual = {role: (token,) for role, token in CLASSES[family].roles.items()} if family else _USUAL
    if family in (None, "llama") and "pad_token" not in config and (fixed := backend.padding) is not None:
        usual = {**usual, "pad_token": (fixed["pad_token"],)}
    special: dict[str, str] = {}
    for role in ROLES:
        token = config.get(role, next((t for t in usual.get(role, ()) if backend.token_to_id(t) is not None), None))
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None and not isinstance(token, str):
            raise ValueError(f"{role} must be a string; the tokenizer's files say {token!r}")
        if token is not None:
            special[role] = token
    return special


def _extra(backend: Any, family: str | None, config: Mapping[str, Any]) -> list[Any]:
    """Special tokens without one of the usual roles: a list, or by names of their own. T5's are its sentinels."""
    extra = config.get("extra_special_tokens") or []
    if family == "t5" and "extra_special_tokens" not in config:
        sentinels = [f"<extra_id_{i}>" for i in range(config.get("extra_ids", 100))]
        extra = [token for token in sentinels if backend.token_to_id(token) is not None]
    own = [
        value for key, value in config.items() if key.endswith("_token") and key not in ROLES and isinstance(value, str)
    ]
    return [*(extra.values() if isinstance(extra, dict) else extra), *own]


def _length(config: Mapping[str, Any]) -> int | None:
    length = config.get("model_max_length")
    if length is None:
        return None
    if isinstance(length, bool) or not isinstance(length, int | float) or length < 1:
        raise ValueError(f"model_max_length must be a number of tokens, 1 or more; got {length!r}")
    return None if length > _NO_LIMIT else int(length)


def _has_types(backend: Any, wanted: str | None) -> bool:
    """BERT alone takes them; the pairs of other tokenizers may be numbered too, and their models do not look."""
    if wanted in CLASSES or wanted in _BACKENDS:
        return wanted == "bert"
    pieces = type(backend.model).__name__ in ("WordPiece", "WordLevel")
    return pieces and any(backend.encode("a", "b").type_ids)


def _chat_template(directory: str, config: Mapping[str, Any]) -> Any:
    path = os.path.join(directory, "chat_template.jinja")
    if not os.path.lexists(path):
        return config.get("chat_template")
    with naming(path):
        return read_regular(path, _MOST_TEMPLATE).decode("utf-8")
