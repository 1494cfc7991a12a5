"""The table of layers: one row each. Every row goes through every contract in `test_contracts.py`.

Sizes are pairwise distinct, so that a missing transpose cannot hide; the data has no symmetry.
"""

from __future__ import annotations

from tests.cases import adapters, bert, distilbert, functions, gpt2, layers, llama, llamas_kind, roberta, t5
from tests.cases.case import Case, draw

PARTS = (functions, layers, adapters, bert, roberta, distilbert, gpt2, llama, llamas_kind, t5)
CASES: list[Case] = [case for part in PARTS for case in part.CASES]

__all__ = ["CASES", "Case", "draw"]
