"""What does not fit is named: a dozen of a kind, and how many more there are."""

from __future__ import annotations

import numpy as np
import pytest

from npora.nn import functional as F
from npora.nn.misfit import some


@pytest.mark.parametrize(("number", "more"), [(0, []), (12, []), (13, ["and 1 more of this kind"]),
                                              (15, ["and 3 more of this kind"])])  # fmt: skip
def test_a_dozen_is_named_and_the_number_of_the_others(number: int, more: list[str]) -> None:
    names = [str(i) for i in range(number)]
    assert some(iter(names)) == names[:12] + more


@pytest.mark.parametrize(("shape", "remedy"), [((5,), "(1, -1)"), ((2, 3, 5), "(-1, 5)"), ((2, 3, 4, 7), "(-1, 7)")])
def test_logits_of_other_axes_are_to_be_made_flat(shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(ValueError) as raised:
        F.cross_entropy(np.zeros(shape), np.zeros(shape[:-1], int))
    assert str(raised.value).endswith(f": pass logits.reshape{remedy} and targets.reshape(-1)")
