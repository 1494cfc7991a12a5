"""A tokenizer's files as an object of the `tokenizers` package, which does the work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from npora.files import read_json

FILE = "tokenizer.json"
_BYTE_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
# What splits text where no tokenizer.json says it. GPT-2 and RoBERTa share one, BERT and DistilBERT another.
_BYTE_LEVEL, _WORD_PIECE = ("gpt2", "roberta"), ("bert", "distilbert")


def read_backend(directory: str, family: str | None, config: Mapping[str, Any]) -> Any:
    """tokenizer.json, or where there is none the vocabularies that GPT-2, RoBERTa and BERT came with.

    family : the model_type that the tokenizer was made for, where the files say it

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
    try:
        import tokenizers
    except ImportError:
        raise ImportError('reading a tokenizer needs the tokenizers package: pip install "npora[hf]"') from None
    known = _BYTE_LEVEL if pairs else _WORD_PIECE
    if FILE not in paths and family not in (None, *known):
        raise ValueError(
            f"{directory} has no {FILE}, and how the vocabulary of a {family} splits text stands only there"
        )
    try:
        if FILE in paths:
            return tokenizers.Tokenizer.from_file(paths[FILE])
        return _byte_pairs(*pairs[0], family, config) if pairs else _word_pieces(paths["vocab.txt"], config)
    except Exception as error:  # the package raises bare Exceptions
        path = paths[FILE] if FILE in paths else pairs[0][0] if pairs else paths["vocab.txt"]
        raise ValueError(f"{path} is not a tokenizer: {error}") from None


def add_tokens(backend: Any, directory: str, special: list[str]) -> None:
    """Add those of `added_tokens.json`, which count on from the vocabulary, and `special` where they are still none."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}  # with settings of their own: kept
    path = os.path.join(directory, "added_tokens.json")
    for token, number in sorted((read_json(path) if os.path.isfile(path) else {}).items(), key=lambda item: item[1]):
        if token not in known:
            backend.add_tokens([AddedToken(token, special=token in special, normalized=token not in special)])
        if backend.token_to_id(token) != number:
            raise ValueError(f"{path} gives {token!r} the id {number}; the vocabulary {backend.token_to_id(token)}")
    backend.add_special_tokens([token for token in dict.fromkeys(special) if token not in known])


def _byte_pairs(vocab: str, merges: str, family: str | None, config: Mapping[str, Any]) -> Any:
    """Byte-level BPE (Radford et al., 2019); RoBERTa's adds <s> … </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    backend = Tokenizer(models.BPE.from_file(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    space = bool(config.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    if family == "roberta" or (family is None and backend.token_to_id("<s>") is not None):
        last, first = _pair(backend, "</s>"), _pair(backend, "<s>")
        backend.post_processor = processors.RobertaProcessing(last, first, True, space)
    return backend


def _word_pieces(vocab: str, config: Mapping[str, Any]) -> Any:
    """WordPiece as BERT has it (Devlin et al., 2019), in lower case unless the files say otherwise: [CLS] … [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    backend = Tokenizer(models.WordPiece.from_file(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.BertProcessing(_pair(backend, "[SEP]"), _pair(backend, "[CLS]"))
    return backend


def _pair(backend: Any, token: str) -> tuple[str, int]:
    number = backend.token_to_id(token)
    if number is None:
        raise ValueError(f"the vocabulary has no {token}")
    return token, number
