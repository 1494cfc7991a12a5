"""The references warn about each other; npora's own warnings stay errors."""

import sys
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for module in ("torch", "transformers", "peft"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))


@pytest.fixture
def t5_norm_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes the mean of the squares in float32 whatever it is given, which rounds to 1e-7."""
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5", reason="needs the extra `parity`")

    def forward(self: Any, x: Any) -> Any:
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    monkeypatch.setattr(modeling.T5LayerNorm, "forward", forward)


@pytest.fixture(autouse=True)
def first_values_drawn_by_the_references_are_the_same_in_every_run() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def angles_of_modernbert_in_float64(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes them in float32 even in a float64 model."""
    if "modernbert" in request.node.name and "torch" in sys.modules:
        from tests.parity.reference import widen

        widen(monkeypatch, pytest.importorskip("transformers.models.modernbert.modeling_modernbert"))
