"""A run that nothing interrupts, which those that are interrupted are compared with."""

from __future__ import annotations

import pytest

from npora import Trainer
from tests.train.test_state import trainer


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("whole"))
    run.train()
    return run
