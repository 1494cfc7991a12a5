"""Where a model comes from: a folder with config.json and the weights, or a file that holds all, as GGUF does."""

from __future__ import annotations

import os
from typing import Any

from npora.files import read_json
from npora.files.gguf_header import is_gguf
from npora.models.config import CONFIG_NAME
from npora.models.gguf.reading import read_gguf_config


def read_config(source: str | os.PathLike[str], model_type: str | None = None) -> dict[str, Any]:
    """What config.json says, or what it would say of a GGUF file.

    model_type : the family that asks, where a file may be of several
    """
    if is_gguf(source):
        return read_gguf_config(source, model_type)
    return read_json(config_path(source))


def config_path(source: str | os.PathLike[str]) -> str:
    """The file whose fields a config has."""
    return os.fspath(source) if is_gguf(source) else os.path.join(source, CONFIG_NAME)
