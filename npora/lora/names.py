"""PEFT's enumerations. Their members are strings, so that a config holds and writes plain ones."""

from __future__ import annotations

from enum import Enum


class TaskType(str, Enum):
    """What a model is trained for; a classification task trains the head of its model too."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


class PeftType(str, Enum):
    """The method of an adapter."""

    LORA = "LORA"


def plain(value: object) -> object:
    """The string of an enumeration's member, PEFT's own too; any other value as it is."""
    return value.value if isinstance(value, Enum) else value
