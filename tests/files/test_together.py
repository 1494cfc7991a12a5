"""Files that belong together are the old ones or the new ones, or do not load, whatever happens in their saving."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel
from npora.files import write_json
from npora.files.together import together
from npora.models import BertForSequenceClassification
from tests.files.test_atomic import Fault
from tests.tiny import tiny_bert, tiny_peft

CHANGING = ("open", "write", "fsync", "replace", "unlink", "rmdir", "mkdir", "rename", "chmod")


def write(directory: Path, content: dict[str, str], key: str = "key") -> None:
    with together(directory, key) as folder:
        for name, text in content.items():
            Path(folder, name).write_text(text)


def held(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


OLD = {"key": "old", "a": "old a", "b": "old b"}


@pytest.mark.parametrize("new", [{"key": "new", "a": "new a", "b": "new b"}, {"key": "new", "c": "new c"},
                                 {"key": "old", "a": "new a"}], ids=str)  # fmt: skip
@pytest.mark.parametrize("before", [OLD, {}], ids=["over", "anew"])
def test_a_fault_at_any_call_leaves_the_old_files_or_the_new_ones(
    tmp_path: Path, new: dict[str, str], before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fault, "NAMES", ("fsync", "replace", "mkdir"))
    found = set()
    for at in range(30):
        path = tmp_path / str(at)
        path.mkdir()
        for name, text in {**before, "mine": "mine"}.items():
            (path / name).write_text(text)
        start, end = held(path), {**held(path), **new}
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, at, OSError(5, "Input/output error"))
            try:
                write(path, new)
            except OSError as caught:
                assert caught is fault.error
        assert held(path) in (start, end) and (fault.raised or held(path) == end)
        assert sorted(os.listdir(path)) == sorted(held(path))
        found.add((fault.raised, held(path) == start))
        if not fault.raised:
            break
    assert found == {(True, True), (True, False), (False, False)}  # only the last flush fails when all is new


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the files were written: each is flushed once, and the folder once more for its names."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    with together(tmp_path, "key") as folder:
        Path(folder, "key").write_text("new")
        write_json(Path(folder, "a"), {})
        fresh = Path(folder).stat().st_ino
    files = [(tmp_path / name).stat().st_ino for name in ("a", "key")]
    assert sorted(flushed[:3]) == sorted([*files, fresh]) and flushed[3:] == [tmp_path.stat().st_ino] * 2


def test_modes_are_kept(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    (tmp_path / "a").chmod(0o604)
    write(tmp_path, {"key": "new", "a": "new"})
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o604


def test_a_key_that_stays_the_same_stays_where_it_is_beside_one_file_alone(tmp_path: Path) -> None:
    write(tmp_path / "made" / "anew", OLD)
    key = tmp_path / "made" / "anew" / "key"
    with open(key) as file:  # or its number may be given to another
        write(key.parent, {"key": "old", "a": "newer"})
        assert key.stat().st_ino == os.fstat(file.fileno()).st_ino
        write(key.parent, {"key": "old", "a": "newest", "b": "newer"})
        assert key.stat().st_ino != os.fstat(file.fileno()).st_ino
    assert held(key.parent) == {"key": "old", "a": "newest", "b": "newer"}


def killed(at: int, work: Any) -> bool:
    """Run it in a process that ends at its n-th call that changes a disk; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [at]

        def wrapped(function: Any) -> Any:
            def call(*args: Any, **keywords: Any) -> Any:
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
                return function(*args, **keywords)

            return call

        for name in CHANGING:
            setattr(os, name, wrapped(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("change", ["alpha", "values"])
def test_an_adapter_whose_saving_is_killed_at_any_call_loads_as_the_old_one_or_the_new_one_or_not_at_all(
    tmp_path: Path, change: str
) -> None:
    """Both have the same shapes, so that PEFT would load the one's config with the other's tensors."""
    one, two = tiny_peft(), tiny_peft(lora_alpha=64 if change == "alpha" else 4)
    for model, value in ((one, 1.0), (two, 2.0)):
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = np.full_like(parameter.data, value)
    seen = set()
    for at in range(80):
        path = tmp_path / str(at)
        one.save_pretrained(path)
        was_killed = killed(at, lambda path=path: two.save_pretrained(path))
        try:
            config = LoraConfig.from_pretrained(path)
            loaded = PeftModel.from_pretrained(tiny_bert(), path)
        except FileNotFoundError as error:
            assert "adapter_config.json" in str(error) and was_killed
            seen.add("none")
            continue
        value = next(p.data for name, p in loaded.named_parameters() if "lora_A" in name).flat[0]
        assert (value, config.lora_alpha) in ((1.0, 4), (2.0, two.active_peft_config.lora_alpha))
        seen.add(str(value))
        if not was_killed:
            break
    assert not was_killed and seen == ({"1.0", "2.0", "none"} if change == "alpha" else {"1.0", "2.0"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_model_whose_saving_is_killed_at_any_call_is_no_mixture(tmp_path: Path) -> None:
    one, two = tiny_bert(hidden_act="gelu"), tiny_bert(seed=1, hidden_act="relu")
    values = {model.config.hidden_act: next(model.parameters()).data.tobytes() for model in (one, two)}
    for at in range(80):
        path = tmp_path / str(at)
        one.save_pretrained(path)
        was_killed = killed(at, lambda path=path: two.save_pretrained(path))
        try:
            loaded = BertForSequenceClassification.from_pretrained(path)
        except FileNotFoundError:
            assert was_killed
            continue
        assert next(loaded.parameters()).data.tobytes() == values[loaded.config.hidden_act]
        if not was_killed:
            break
    assert not was_killed
