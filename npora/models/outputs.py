"""What models return, under transformers' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npora.nn.module import Array


@dataclass
class BaseModelOutputWithPooling:
    """last_hidden_state [b,t,d], zeros where padding was; pooler_output [b,d]."""

    last_hidden_state: Array
    pooler_output: Array


@dataclass
class SequenceClassifierOutput:
    """loss, a scalar, or None without labels; logits [b,v]; num_items, how many labels the loss is the mean over."""

    loss: Any
    logits: Array
    num_items: int = 0
