"""The forms in which a matrix may lie, each as what makes it of floats: the tests' table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from npora.stored import Q8_0, BFloat16, Float16, Stored

FORMS: Mapping[str, Callable[[Any], Stored]] = {
    "bfloat16": BFloat16.rounded, "float16": Float16.rounded, "int8": Q8_0.quantized,
}  # fmt: skip
