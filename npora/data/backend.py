"""A tokenizer's files as an object of the `tokenizers` package, which does the work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from npora.data.classes import CLASSES, Parts
from npora.files.refusal import shortened
from npora.files.regular import open_regular, read_regular

FILE = "tokenizer.json"
MOST_BYTES = 200_000_000  # of it; those of large vocabularies have 35 million
_MOST_GAPS = 100_000  # ids that no token has
_BYTE_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


def read_backend(directory: str, family: str | None, config: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The tokenizer, and the class that built it: None where `tokenizer.json` holds as it is written.

    As transformers does it: a class of `classes.CLASSES` takes from `tokenizer.json` the vocabulary, and how text is
    split before that from the settings in `config`; of any other the file says everything. Where there is no such file
    the vocabularies that GPT-2, RoBERTa and BERT came with are read.

    family : the name of the class in lower case without its ending, or the model_type; None where no file says one

    Raises
    ------
    FileNotFoundError: none of these files.  ImportError: the `tokenizers` package is missing.
    ValueError: a file that is broken, or a vocabulary of a family that splits text in a way of its own.
    """
    paths = {name: os.path.join(directory, name) for name in sorted(os.listdir(directory))}
    pairs = [(paths[v], paths[m]) for v, m in _BYTE_PAIRS if v in paths and m in paths]
    if FILE not in paths and not pairs and "vocab.txt" not in paths:
        hint = "".join(
            f". {name} is a SentencePiece model, which npora does not read; transformers writes a {FILE} from it: "
            f"AutoTokenizer.from_pretrained({directory!r}).save_pretrained({directory!r})"
            for name in _SENTENCEPIECE
            if name in paths
        )
        raise FileNotFoundError(
            f"there is no file {os.path.join(directory, FILE)}, and no vocab.json with merges.txt or vocab.txt either"
            + hint
        )
    tokenizers = package()
    path = paths[FILE] if FILE in paths else pairs[0][0] if pairs else paths["vocab.txt"]
    for file in [path] if FILE in paths or not pairs else pairs[0]:  # the package would wait for a pipe
        open_regular(file, MOST_BYTES).close()
    with refusing(path):
        if FILE in paths:
            written = tokenizers.Tokenizer.from_buffer(read_regular(path, MOST_BYTES))
            _refuse_gaps(written.get_vocab())
            return _of_file(written, family, config)
        if pairs:
            parts = Parts("BPE", *tokenizers.models.BPE.read_file(*pairs[0]))
            _refuse_gaps(parts.vocab)
            family = family or ("roberta" if "<s>" in parts.vocab else "gpt2")
        else:
            parts = Parts("WordPiece", tokenizers.models.WordPiece.read_file(path))
            family = family or "bert"
        if family in CLASSES and CLASSES[family].takes(parts):
            return CLASSES[family].build(parts, config), family
    raise ValueError(f"{directory} has no {FILE}, and how the vocabulary of a {family} splits text stands only there")


def package() -> Any:
    """The tokenizers package. Raises ImportError where it is missing, with the way to install it."""
    try:
        import tokenizers
    except ImportError:
        raise ImportError('reading a tokenizer needs the tokenizers package: pip install "npora[hf]"') from None
    return tokenizers


def _refuse_gaps(vocabulary: Mapping[str, int]) -> None:
    """Raise ValueError for an id far beyond the number of tokens: the package counts up to it when it writes a
    vocabulary, and where memory ends it ends the program."""
    token, largest = max(vocabulary.items(), key=lambda item: item[1], default=("", 0))
    if largest > 2 * len(vocabulary) + _MOST_GAPS:
        raise ValueError(f"the id of {shortened(token)} is {largest:,}, and it has {len(vocabulary):,} tokens")


@contextmanager
def refusing(path: str) -> Iterator[None]:
    """Let what the package raises while it reads a tokenizer be a ValueError that names the file: it raises bare
    Exceptions, and where its Rust panics, which is meant to end a program, what is no Exception at all."""
    try:
        yield
    except BaseException as error:
        is_its_own = type(error) in (Exception, ValueError, OverflowError) or is_panic(error)
        if not is_its_own or path in str(error):
            raise
        raise ValueError(f"{path} is not a tokenizer: {said(error)}") from None


def is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def said(error: BaseException) -> str:
    """What the package says, in an error of npora's."""
    text = f"the tokenizers package panics: {error}" if is_panic(error) else str(error)
    return text if len(text) <= 500 else f"{text[:499]}…"


def _of_file(written: Any, family: str | None, config: Mapping[str, Any]) -> tuple[Any, str | None]:
    if family not in CLASSES:
        return written, None
    parts, chosen = Parts.of(written), CLASSES[family]
    ends = [_content(config.get(role) or chosen.roles[role]) for role in chosen.around]
    if not chosen.takes(parts) or any(written.token_to_id(token) is None for token in ends):
        return written, None
    built = chosen.build(parts, config)
    if written.padding is not None:
        built.enable_padding(**written.padding)
    if written.truncation is not None:
        built.enable_truncation(**written.truncation)
    return built, family


def add_tokens(backend: Any, numbered: Mapping[int, Any], roles: list[Any], extra: list[Any], where: str) -> None:
    """Add what the files count on from the vocabulary, and the special tokens that are no tokens of their own yet.

    numbered, roles, extra : each token a string, or a dict of its settings (content, lstrip, rstrip, normalized, …)

    Raises
    ------
    ValueError: a token whose number in the files is not the one it gets.
    """
    names = {_content(token) for token in roles}
    known = {repr(token) for token in backend.get_added_tokens_decoder().values()}
    found = {token.content for token in backend.get_added_tokens_decoder().values()}
    every = [(number, _added(token, _content(token) in names)) for number, token in sorted(numbered.items())]
    # The same settings again would change nothing. All at once: each call goes through all that were added before.
    backend.add_tokens([added for _, added in every if repr(added) not in known])
    for number, added in every:
        if backend.token_to_id(added.content) != number:
            got = backend.token_to_id(added.content)
            raise ValueError(f"{where} gives {added.content!r} the id {number}; the vocabulary {got}")
        found.add(added.content)
    others: dict[str, Any] = {}
    for token in [*roles, *extra]:
        others.setdefault(_content(token), token)
    backend.add_tokens([_added(token, True) for content, token in others.items() if content not in found])


def _content(token: Any) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _added(token: Any, special: bool) -> Any:
    from tokenizers import AddedToken

    if isinstance(token, str):
        return AddedToken(token, special=special)
    settings = {name: value for name, value in token.items() if name in _SETTINGS}
    return AddedToken(**settings, special=special or bool(token.get("special")))


_SETTINGS = ("content", "single_word", "lstrip", "rstrip", "normalized")
