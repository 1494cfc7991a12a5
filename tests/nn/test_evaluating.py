"""A model that is evaluated for a while drops nothing out, and then each of its modules has its own mode again."""

from __future__ import annotations

import threading

import pytest

from npora.nn import Dropout, Module, is_grad_enabled
from npora.nn.evaluating import _modes, evaluating


class Two(Module):
    def __init__(self) -> None:
        self.first, self.second = Dropout(0.5), Dropout(0.5)
        self.first.training = True


def modes(model: Two) -> list[bool]:
    return [module.training for module in (model, model.first, model.second)]


def test_each_module_gets_its_own_mode_back_whatever_is_raised() -> None:
    model = Two()
    with pytest.raises(KeyError), evaluating(model):
        assert modes(model) == [False] * 3 and not is_grad_enabled()
        for _ in range(2):
            with evaluating(model):
                with evaluating(model):
                    assert modes(model) == [False] * 3
                assert modes(model) == [False] * 3
            assert modes(model) == [False] * 3
        raise KeyError
    assert modes(model) == [False, True, False] and is_grad_enabled() and not _modes


def test_of_two_threads_the_last_to_end_gives_the_modes_back() -> None:
    model, begun, end = Two(), threading.Event(), threading.Event()

    def other() -> None:
        with evaluating(model):
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=other)
    with evaluating(model):
        thread.start()
        begun.wait(60)
    assert modes(model) == [False] * 3
    end.set()
    thread.join()
    assert modes(model) == [False, True, False] and not _modes
