"""What tells examples from others sees all of them, as far as looking at one is no work."""

from __future__ import annotations

import copy
import pickle
from array import array
from mmap import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import ByteTokenizer, Dataset
from npora.data.columns import Columns
from npora.data.fingerprint import FEW, SPREAD, fingerprint
from npora.data.strings import Strings
from npora.data.strings import __name__ as STRINGS

NUMBER = 3 * SPREAD + 5  # so that most are not among those that are looked at where not all are


def columns(labels: list[int]) -> dict[str, Any]:
    return {"text": [f"text {i % 7}" * (i % 3) for i in range(len(labels))], "label": labels}


def listed(labels: list[int]) -> list[dict[str, Any]]:
    return [dict(zip(("text", "label"), pair, strict=True)) for pair in zip(*columns(labels).values(), strict=True)]


class Foreign:
    """As a dataset of Hugging Face's."""

    def __init__(self, examples: list[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.examples[i] for i in indices]


KINDS: dict[str, Any] = {
    "list": listed, "tuple": lambda labels: tuple(listed(labels)), "Dataset": lambda labels: Dataset(listed(labels)),
    "columns": lambda labels: Dataset(Columns(columns(labels))),
    "compact": lambda labels: Dataset(Columns({"text": Strings(columns(labels)["text"]), "label": array("q", labels)})),
    "in another order": lambda labels: KINDS["compact"](labels).shuffle(1),
    "foreign": lambda labels: Foreign(listed(labels)),
    "transformed": lambda labels: KINDS["compact"](labels).with_transform(lambda batch: {"text": batch["text"]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_any_example_is_seen(kind: str) -> None:
    make, labels = KINDS[kind], [i % 4 for i in range(NUMBER)]
    before = fingerprint(make(labels))
    assert before == fingerprint(make(list(labels))) and None not in before.values()
    for place in (0, 1, NUMBER // 2, NUMBER - 2, NUMBER - 1):
        changed = list(labels)
        changed[place] = 9
        assert fingerprint(make(changed)) != before
    assert fingerprint(make(labels[:-1])) != before and fingerprint(make(labels[::-1])) != before


def test_a_selection_is_told_by_what_is_in_it_alone() -> None:
    one, other = ([i % 4 for i in range(50)] for _ in range(2))
    other[7] = 9
    few = [data.select([3, 9, 4]).fingerprint() for data in map(KINDS["compact"], (one, other))]
    assert few[0] == few[1] != KINDS["compact"](one).select([9, 3, 4]).fingerprint()


@given(st.lists(st.text(max_size=3), max_size=5), st.lists(st.text(max_size=3), max_size=5))
def test_strings_are_told_apart_also_where_one_ends_and_the_next_begins(one: list[str], other: list[str]) -> None:
    found = [Columns({"text": Strings(texts)}).fingerprint() for texts in (one, other)]
    assert (found[0] == found[1]) == (one == other)


def test_what_a_function_makes_is_looked_at_too() -> None:
    data, rng = KINDS["list"]([i % 4 for i in range(NUMBER)]), np.random.default_rng(0)
    makers = [lambda batch: batch, lambda batch: {"text": batch["text"]},
              lambda batch: {"drawn": rng.random(len(batch["text"])).tolist()}]  # fmt: skip
    found = [Dataset(data).with_transform(maker).fingerprint() for maker in makers]
    assert len({each["sha256"] for each in found}) == 1 and found[0]["made"] != found[1]["made"]
    assert found[2]["made"] is None


def test_of_many_that_may_be_work_to_make_some_are_looked_at_and_this_is_said() -> None:
    asked: list[int] = []

    class Large:
        def __init__(self, number: int) -> None:
            self.number = number

        def __len__(self) -> int:
            return self.number

        def __getitem__(self, i: int) -> dict[str, Any]:
            asked.append(i)
            return {"input_ids": [1, i % 30]}

    assert fingerprint(Large(FEW)).keys() == {"sha256"} and set(asked) == set(range(FEW))
    asked.clear()
    assert fingerprint(Large(10**6))["looked at"] == SPREAD
    assert len(asked) == SPREAD + 2 and max(asked) > 990_000


class Made:
    """Each of its examples is work to make, of what it holds. It counts how often it was asked, and keeps a few."""

    def __init__(self, holds: Any, number: int = NUMBER) -> None:
        self.holds, self.number, self.asked, self.kept = holds, number, 0, dict[int, Any]()

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> Any:
        self.asked += 1
        self.kept[i % 9] = {"input_ids": [i % 5]}
        return {"input_ids": [i % 7]}


def mapped(labels: list[int]) -> Any:
    memory = mmap(-1, len(labels))
    memory.write(bytes(labels))
    return memory


HOLDERS: dict[str, Any] = {
    "a list": list, "columns": lambda labels: {"text": "short", "more": {"labels": tuple(labels)}},
    "numbers": lambda labels: np.array(labels), "a matrix": lambda labels: np.array([labels, labels[::-1]]).T,
    "things": lambda labels: np.array([str(label) for label in labels], object), "bytes": bytes, "mapped": mapped,
    "a text": lambda labels: "".join(map(str, labels)), "array": lambda labels: array("b", labels),
    "a data set": lambda labels: Foreign(labels), "a Dataset": lambda labels: Dataset(listed(labels)),
    "two": lambda labels: [Made(labels[:300], 300), Made(labels[300:], NUMBER - 300)],
}  # fmt: skip


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_many_examples_are_made_from_is_looked_at_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npora.data.fingerprint.FEW", 100)
    monkeypatch.setattr("npora.data.fingerprint._AT_ONCE", 200)
    make, labels = HOLDERS[kind], [i % 4 for i in range(NUMBER)]
    before, data = fingerprint(Made(make(labels))), Made(make(list(labels)))
    assert before.keys() == {"sha256", "looked at", "holds"}
    for _ in range(2):  # it was asked meanwhile
        assert fingerprint(data) == before
    for place in (1, NUMBER // 2 + 1, NUMBER - 1):
        changed = list(labels)
        changed[place] = 9
        assert fingerprint(Made(make(changed)))["holds"] != before["holds"]


def test_what_is_shorter_than_the_examples_and_what_holds_itself_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("npora.data.fingerprint.FEW", 100)
    data = Made([0] * NUMBER)
    data.kept["self"] = data  # type: ignore[index]
    whole = fingerprint(data)
    data.short, data.text, data.few = [1] * (NUMBER - 1), "a" * (NUMBER - 1), np.ones(NUMBER - 1)  # type: ignore[attr-defined]
    assert fingerprint(data) == whole and "holds" not in fingerprint(Made(len))
    assert "holds" not in fingerprint(Made(Dataset))  # the class


def test_strings_that_lie_on_the_disk_are_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", "a", "bc" * 9, "ü", "", "\ud800", "last" * 3, "z"]
    held = Strings(texts)
    monkeypatch.setattr(f"{STRINGS}._IN_MEMORY", 7)
    on_disk = Strings(texts)
    assert len(on_disk._map) > 20 and not held._map
    for copied in (on_disk, copy.deepcopy(on_disk), pickle.loads(pickle.dumps(on_disk))):
        assert list(copied) == texts and copied[::-2] == texts[::-2]
    order = np.array([7, 2, 2, 0])
    for chosen in (None, order):
        assert list(on_disk.pieces(chosen)) == list(held.pieces(chosen))


def test_tokenizers_that_give_other_ids_are_told_apart() -> None:
    first, same, other = ByteTokenizer(), ByteTokenizer(), ByteTokenizer(eos=True)
    assert first.digest() == same.digest() != other.digest()
    same.truncation_side = "left"
    assert first.digest() != same.digest()
