"""Frozen matrices as they lie in their files, one file a format.

A `Stored` matrix knows its `shape`, `dtype` (of what it gives, float32), `[ids]` (an embedding's rows),
`[rows, columns]` as floats, and `.T`; `machine.product` multiplies by it and widens a tile at a time. Half precision
(`BFloat16`, `Float16`) is exact: the matrix is known by its floats, in whichever form. The quantised formats are
`Blocked`: rows of bytes, of which a format says how a block becomes floats; they are known by those bytes.

A new format is a file here: a subclass of `Blocked` with `form`, its name; `block` and `block_bytes`, the numbers and
the bytes of a block; and `terms`, from the one to the other. `q8_0.py` is such a page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from npora.machine.stored import Stored
from npora.stored.bfloat16 import BFloat16
from npora.stored.blocks import Blocked
from npora.stored.float16 import Float16
from npora.stored.nf4 import NF4
from npora.stored.q4_0 import Q4_0
from npora.stored.q4_1 import Q4_1
from npora.stored.q4_k import Q4_K
from npora.stored.q5_0 import Q5_0
from npora.stored.q5_1 import Q5_1
from npora.stored.q5_k import Q5_K
from npora.stored.q6_k import Q6_K
from npora.stored.q8_0 import Q8_0

__all__ = [
    "FORMS", "GGML", "HALF", "NF4", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "QUANTIZED",
    "BFloat16", "Blocked", "Float16", "Stored",
]  # fmt: skip

HALF: Mapping[str, type[BFloat16 | Float16]] = {"bfloat16": BFloat16, "float16": Float16}
QUANTIZED: Mapping[str, type[Blocked]] = {"int8": Q8_0, "nf4": NF4}  # the forms that matrices can be quantised to
GGML: Mapping[str, type[Blocked]] = {  # the forms that GGUF files have, by their names there; but for Q8_0 only read
    form.__name__: form for form in (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)
}
FORMS: Mapping[str, Callable[[Any], Stored]] = {  # what makes a stored matrix of one of floats
    **{name: form.rounded for name, form in HALF.items()},
    **{name: form.quantized for name, form in QUANTIZED.items()},
}
