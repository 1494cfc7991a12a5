"""How well spans of words are found: names, places, …, which tags of single words mark.

A tag is O, outside, or a letter with a type behind it, as B-PER: B begins a span, I goes on with it, E ends it, S is
one of a single word (Ramshaw and Marcus, 1995; IOB1, IOB2 and IOBES alike). A span that goes on without a beginning
begins there. With the spans P that are predicted and T that are true, each with its type,

    F1 = 2 |P ∩ T| / (|P| + |T|)                                                             (1)

which is seqeval's micro-average and conlleval's F1 (Tjong Kim Sang and De Meulder, 2003): a span counts as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last word of each span in the tags of a text."""
    found: list[tuple[str, int, int]] = []
    before, kind, start = "O", "", 0
    for i, tag in enumerate([*tags, "O"]):
        now, name = tag[:1], tag[1:].removeprefix("-") or "_"
        if before != "O" and (before in "ES" or now in "BSO" or name != kind):
            found.append((kind, start, i - 1))
        if now != "O" and (now in "BS" or before in "ESO" or name != kind):
            start = i
        before, kind = now, name
    return found


def entity_f1(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """F1 of the spans of all texts together; nan where neither side has any.

    Raises
    ------
    ValueError: not as many tags are predicted as there are.
    """
    if [len(tags) for tags in predicted] != [len(tags) for tags in true]:
        raise ValueError("a tag is needed for each word of each text")
    found, wanted = (
        {(i, *span) for i, tags in enumerate(side) for span in entities(tags)} for side in (predicted, true)
    )
    either = len(found) + len(wanted)
    return 2 * len(found & wanted) / either if either else math.nan  # (1)
