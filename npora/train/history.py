"""state.log_history in checkpoints, however long it is."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from npora.files.journal import Journal
from npora.files.refusal import naming
from npora.train.callbacks import Args, Control, ExportableState, State, TrainerCallback
from npora.train.plain import plain, unplain

HISTORY_NAME = "log_history.jsonl"


class HistoryCallback(TrainerCallback, ExportableState):
    """output_dir/log_history.jsonl: a save appends the entries that are new since the last one, and its checkpoint has
    the file's length and digest, so that a save is as much work at the end of a run as at its beginning."""

    def __init__(self) -> None:
        self.mark: dict[str, Any] = {}  # of the checkpoint that a run goes on from
        self._journal: Journal | None = None
        self._entries: Sequence[dict[str, Any]] = ()
        self._written = 0  # of the entries

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        resumed, path = kwargs["resume_from_checkpoint"], os.path.join(args.output_dir, HISTORY_NAME)
        if resumed and self.mark:
            before = os.path.join(os.path.dirname(resumed), HISTORY_NAME)
            with naming(resumed):
                self._journal = Journal.resume(path, before, self.mark)
            with open(path, "rb") as file:
                state.log_history.extend(entry for line in file if (entry := _entry(line)) is not None)
        else:
            self._journal = Journal(path)
        self._entries, self._written = state.log_history, len(state.log_history)

    def state(self) -> dict[str, Any]:
        assert self._journal is not None, "a save outside a training"
        for entry in self._entries[self._written :]:
            self._journal.write(json.dumps(plain(entry)))
            self._written += 1
        return {"args": {}, "attributes": {"mark": self._journal.mark()}}

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal, self._entries, self.mark = None, (), {}


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None of one that is damaged, which the journal has told of."""
    try:
        entry = unplain(json.loads(line))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
