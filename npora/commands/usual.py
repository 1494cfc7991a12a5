"""Which columns of a file hold what, where nobody says it: those that have the usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npora.commands.messages import say
from npora.data.alike import usual_texts
from npora.data.chats import usual_columns
from npora.data.tables import separator_hint, shortened_names

Found = dict[str, str | None]  # by "text", "text_pair" and "label"

# Of each task the columns of a text, and of a second one, in the order in which they are looked for; and of its label.
_TEXTS: dict[str, Sequence[tuple[str, str | None]]] = {
    "classification": (
        ("sentence", None), ("text", None), ("sentence1", "sentence2"), ("premise", "hypothesis"),
        ("question1", "question2"), ("text1", "text2"),
    ),
    "token-classification": (("tokens", None), ("words", None)),
}  # fmt: skip
_LABELS = {"classification": ("label", "labels"), "token-classification": ("tags", "ner_tags", "labels")}


def texts_and_labels(chosen: Found, task: str, path: str, names: Sequence[str]) -> None:
    """Of a classifier: add the columns that nobody chose, of a file whose first example has these names, and say them
    where they are not those that are looked for first. In JSON a label that the first example lacks may be in the
    others.

    Raises
    ------
    ValueError: no column has a usual name.
    """
    if not names:
        return  # the reader says what is wrong
    said, is_table = [], path.lower().removesuffix(".gz").endswith((".tsv", ".csv"))
    if chosen["text"] is None:
        pairs = [(text, second) for text, second in _TEXTS[task] if text in names and second in (None, *names)]
        if not pairs:
            raise _unknown(path, names, "the text", "--text-column", *(text for text, _ in _TEXTS[task]))
        text, second = pairs[0]
        chosen["text"], chosen["text_pair"] = text, chosen["text_pair"] or second
        if text != _TEXTS[task][0][0]:
            said.append(f"the text is in the column {text!r}" + f", the second in {second!r}" * (second is not None))
    if chosen["label"] is None:
        labels = [label for label in _LABELS[task] if label in names]
        if not labels and is_table:
            raise _unknown(path, names, "the label", "--label-column", *_LABELS[task])
        chosen["label"] = labels[0] if labels else _LABELS[task][0]
        if chosen["label"] != _LABELS[task][0]:
            said.append(f"the label is in the column {chosen['label']!r}")
    if said:
        say(f"{path}: {'; '.join(said)}")


def conversations(chosen: dict[str, Any], first: Mapping[str, Any], path: str) -> None:
    """Of a causal LM: the column of a text, and of what stands before it, and whether the text is messages."""
    if chosen["text"] is None and chosen["prompt"] is None and "sentence" not in first:
        chosen["text"], chosen["prompt"] = usual_columns(list(first))
        if chosen["text"] is not None:
            prompt = f"what stands before it in {chosen['prompt']!r}" if chosen["prompt"] else "no prompt"
            passed = "; rejected is not looked at (--task dpo and orpo do)" if "rejected" in first else ""
            say(f"{path}: the text is in the column {chosen['text']!r}, {prompt}{passed}")
    text = chosen["text"] or "sentence"
    chosen["conversational"] = text in ("messages", "conversations") or isinstance(first.get(text), list) or None


def choices(chosen: dict[str, Any], path: str, names: Sequence[str]) -> None:
    """Of multiple choice: the columns that nobody chose, where they are not those that the reader knows.

    Raises
    ------
    ValueError: no column has a usual name.
    """
    found, stems = chosen["text"], ("ending0", "choice0")
    if names and found is None and not {"question", "sent1"} & {*names}:
        raise _unknown(path, names, "the question", "--text-column", "question", "sent1")
    if names and chosen["choices"] is None and not {"choices", *stems} & {*names}:
        raise _unknown(path, names, "a list of texts", "--choices-column", "choices", *(f"{stem}, …" for stem in stems))
    if names and chosen["label"] is None and "label" not in names:
        raise _unknown(path, names, "the number of the right choice", "--label-column", "label")
    chosen["text"] = found or ""  # the usual ones


def questions(chosen: dict[str, Any], path: str, names: Sequence[str]) -> None:
    """Of questions: the columns that nobody chose.

    Raises
    ------
    ValueError: none has the usual name, and the file is not SQuAD's own.
    """
    usual = {
        "text": ("question", "--text-column", "the question"),
        "text_pair": ("context", "--text-pair-column", "the text that is asked"),
        "label": ("answers", "--label-column", "the answers"),
    }
    for field, (name, option, what) in usual.items():
        if chosen[field] is None and names and name not in names and "paragraphs" not in names:
            raise _unknown(path, names, what, option, name)
        chosen[field] = chosen[field] or name


def preferences(chosen: dict[str, Any], first: Mapping[str, Any], path: str) -> None:
    """The columns of a prompt and of both answers, and whether they are messages.

    Raises
    ------
    ValueError: nobody chose one of them, and the file has none of its name.
    """
    for name, option, what in (("text", "text", "chosen"), ("rejected", "rejected", "rejected")):
        if first and chosen[name] is None and what not in first:
            raise _unknown(path, [*first], f"the answer that was {what}", f"--{option}-column", what)
    chosen["text"], chosen["rejected"] = chosen["text"] or "chosen", chosen["rejected"] or "rejected"
    columns = [chosen["prompt"] or "prompt", chosen["text"], chosen["rejected"]]
    chosen["conversational"] = any(isinstance(first.get(column), list) for column in columns) or None
    if chosen["prompt"] is None and first and "prompt" not in first and not chosen["conversational"]:
        raise _unknown(path, [*first], "what both answers answer", "--prompt-column", "prompt")
    if columns[0] in first or not chosen["conversational"]:
        chosen["prompt"] = columns[0]


def alike(chosen: dict[str, Any], first: Mapping[str, Any], path: str) -> None:
    """The columns of two texts that are alike, of one that is not, and of a score, "" where there is none.

    Raises
    ------
    ValueError: no column is named, and none has a usual name; one text's alone is named.
    """
    if chosen["text"] is None and chosen["text_pair"] is None:
        found = usual_texts([*first])
        if found is None and first:
            raise ValueError(
                f"{path} has the columns {shortened_names([*first])}{separator_hint([*first])}: name those of two "
                "texts that are alike with --text-column and --text-pair-column (and with --negative-column one that "
                "is not alike, with --label-column a score)"
            )
        names = dict(zip(("text", "text_pair", "negative", "label"), found or (), strict=found is not None))
        chosen.update({name: value for name, value in names.items() if chosen[name] is None})
        if chosen["text"] not in (None, "anchor"):
            score = f", how alike they are in {chosen['label']!r}" if chosen["label"] else ""
            say(f"{path}: the texts are in the columns {chosen['text']!r} and {chosen['text_pair']!r}{score}")
    elif None in (chosen["text"], chosen["text_pair"]):
        raise ValueError("--text-column and --text-pair-column name the columns of two texts: give both")
    chosen["label"] = chosen["label"] or ""


def _unknown(path: str, names: Sequence[str], what: str, option: str, first: str, *others: str) -> ValueError:
    nor = f" (nor {', '.join(others)})" if others else ""
    return ValueError(
        f"{path}: there is no column '{first}'{nor}; there are: {shortened_names(names)}{separator_hint(names)}. "
        f"{option} names the one that holds {what}"
    )
