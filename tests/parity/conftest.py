"""The references warn about each other; npora's own warnings stay errors."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for module in ("torch", "transformers", "peft"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))
