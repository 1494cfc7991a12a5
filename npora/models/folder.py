"""What lies beside the weights in a checkpoint's directory: adapters, and the files that say how texts become ids and
images numbers."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from npora.files import read_json
from npora.files.gguf_header import is_gguf
from npora.files.weights import INDEX, SINGLE
from npora.models.config import CONFIG_NAME

logger = logging.getLogger("npora")

ADAPTER_CONFIG = "adapter_config.json"
_TOKENIZER = (
    "added_tokens.json", "chat_template.*", "merges.txt", "preprocessor_config.json", "sentencepiece.bpe.model",
    "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab.json", "vocab.txt",
)  # fmt: skip


def check_is_model(folder: str) -> None:
    """Raise where a directory holds an adapter, or one in its `adapter/`, and no model; log where it holds both.

    Raises
    ------
    FileNotFoundError: names the base, and what to call.
    """
    path = Path(folder)
    if is_gguf(folder):
        return
    weights = [name for pattern in (SINGLE, INDEX, "pytorch_model*.bin") for name in path.glob(pattern)]
    if (path / CONFIG_NAME).is_file() and weights:
        if (path / ADAPTER_CONFIG).is_file():
            logger.warning(
                "%s holds an adapter beside the weights of a model: these are loaded, and the adapter is not "
                "(transformers would load it, onto the base that it names)", folder,
            )  # fmt: skip
        return
    if not (path / CONFIG_NAME).is_file() and (files := sorted(path.glob("*.gguf"))):
        raise FileNotFoundError(f"{folder} has no {CONFIG_NAME}, and GGUF files: pass one of them, as {files[0]}")
    for adapter in (path, path / "adapter"):
        if (adapter / ADAPTER_CONFIG).is_file():
            base = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
            named = "a base that it does not name" if base is None else repr(base)
            raise FileNotFoundError(
                f"{adapter} is an adapter of {named}, and no model: load the base, and call "
                f"PeftModel.from_pretrained(model, {os.fspath(adapter)!r})"
            )


def refuse_adapters_place(directory: str | os.PathLike[str]) -> None:
    """Raises ValueError where a directory holds an adapter, which transformers would put on a model saved there."""
    if os.path.isfile(os.path.join(directory, ADAPTER_CONFIG)):
        raise ValueError(
            f"{os.fspath(directory)} holds an adapter ({ADAPTER_CONFIG}), which transformers would load with a model "
            "saved beside it: save the model in a directory of its own"
        )


def copy_tokenizer(source: str | os.PathLike[str] | None, directory: str | os.PathLike[str]) -> None:
    """Copy a tokenizer's files, whichever there are, from one directory to another that has none.

    What the other one has is left as it is, since a tokenizer may have been saved there on purpose; where that is not
    the source's it is logged.
    """
    if source is None or os.path.realpath(source) == os.path.realpath(directory):
        return
    names = sorted(path.name for pattern in _TOKENIZER for path in Path(source).glob(pattern) if path.is_file())
    there = sorted(path.name for pattern in _TOKENIZER for path in Path(directory).glob(pattern))
    if not there:
        for name in names:
            shutil.copyfile(Path(source, name), Path(directory, name))
    elif names and any(
        name not in names or Path(source, name).read_bytes() != Path(directory, name).read_bytes() for name in there
    ):
        logger.warning("%s has a tokenizer that is not the one in %s; it is left as it is", directory, source)
