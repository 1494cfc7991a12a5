"""The table of layers: one row each. Every row goes through every contract in `test_contracts.py`.

Sizes are pairwise distinct, so that a missing transpose cannot hide; the data has no symmetry.
"""

from __future__ import annotations

from tests.cases import bert, functions, gpt2, layers, llama
from tests.cases.case import Case, draw

CASES: list[Case] = [case for part in (functions, layers, bert, gpt2, llama) for case in part.CASES]
from tests.cases import bert, distilbert, functions, gpt2, layers, roberta
from tests.cases.case import Case, draw

CASES: list[Case] = [case for part in (functions, layers, bert, roberta, distilbert, gpt2) for case in part.CASES]
from tests.cases import bert, functions, gpt2, layers, t5
from tests.cases.case import Case, draw

CASES: list[Case] = [case for part in (functions, layers, bert, gpt2, t5) for case in part.CASES]

__all__ = ["CASES", "Case", "draw"]
