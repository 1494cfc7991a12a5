"""The architectures of GGUF that npora reads and writes."""

from __future__ import annotations

from npora.models.gguf.architecture import Architecture
from npora.models.gguf.bert import BERT
from npora.models.gguf.gemma3 import GEMMA3
from npora.models.gguf.gpt2 import GPT2
from npora.models.gguf.llama import LLAMA
from npora.models.gguf.qwen import QWEN2, QWEN3

ARCHITECTURES = {each.name: each for each in (BERT, GEMMA3, GPT2, LLAMA, QWEN2, QWEN3)}


def architecture_of(model_type: str) -> Architecture | None:
    """That of a family; None where npora has none."""
    return next((each for each in ARCHITECTURES.values() if model_type in each.model_types), None)
