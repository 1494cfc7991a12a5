"""Where a checkpoint is: a directory, or a name on the Hugging Face hub that is fetched into the hub's own cache."""

from __future__ import annotations

import logging
import os
import re
from fnmatch import fnmatch

from npora.files.gguf_header import is_gguf
from npora.files.hashes import check_hashes, is_snapshot

logger = logging.getLogger("npora")

_NAME = re.compile(r"(\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)  # as huggingface_hub has it
_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]  # .model and .jinja: sentencepiece's vocabularies, chat templates
_WEIGHTS = ["*.safetensors"]
_NEVER = ["*/*", "consolidated*"]  # folders hold other formats; consolidated files are the weights a second time


def resolve(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    weights: bool = True,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> str:
    """The directory of a checkpoint: `name_or_path` itself where it is one, or is a GGUF file, which holds a whole
    model; else the hub's snapshot of that name.

    `org/name`, `name` and `org/name@revision` are names on the hub. Of the files there only .json, .txt, .model, .jinja
    and .safetensors are fetched, and none of a folder. The package's environment variables hold: HF_HUB_OFFLINE,
    HF_HOME, HF_ENDPOINT, HF_TOKEN.

    revision : a branch, a tag or a commit; `main` unless given. A directory has none: that is logged
    cache_dir : in place of the hub's own
    weights : False leaves out the .safetensors files
    local_files_only : fetch nothing, as HF_HUB_OFFLINE does
    token : of the hub's, for a model that not all may read; the one of `hf auth login` unless given

    Raises
    ------
    FileNotFoundError: neither a directory nor a name on the hub, or not in the cache while the hub is out of reach.
    PermissionError: a model whose terms must be accepted first.  OSError: a download that failed.
    ValueError: a file that is not what the hub gave, by its hash, in a directory of the cache too: each is checked
    once.
    ImportError: the `huggingface_hub` package is missing.
    """
    path = os.fspath(name_or_path)
    if is_gguf(path) and not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    if os.path.isdir(path) or is_gguf(path):
        if revision not in (None, "main"):
            what = "file" if is_gguf(path) else "directory"
            logger.warning("%s is a %s, which has no revision %r: it is read as it is", path, what, revision)
        if is_snapshot(path):
            check_hashes(path, _wanted(path, weights))
        return path
    missing = f"there is no directory {path}"
    if os.path.exists(path):
        raise NotADirectoryError(f"{path} is a file; pass the directory that holds it")
    name, _, tag = path.partition("@")
    if revision and tag and revision != tag:
        raise ValueError(f"{path} asks for the revision {tag}, and revision={revision!r} for another")
    unnamable = FileNotFoundError(f"{missing}, and no model on the Hugging Face hub can have this name (org/name)")
    if not _NAME.fullmatch(name):
        raise unnamable
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError:
        raise ImportError(
            f"{missing}; fetching a model of this name from the Hugging Face hub needs the huggingface_hub package: "
            'pip install "npora[hf]"'
        ) from None
    revision = revision or tag or constants.DEFAULT_REVISION
    hub = constants.ENDPOINT
    try:
        folder = str(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=None if cache_dir is None else os.fspath(cache_dir),
                allow_patterns=_FILES + _WEIGHTS * weights,
                ignore_patterns=_NEVER,
                local_files_only=local_files_only,
                token=token,
            )
        )
    except errors.HFValidationError:  # such as two dots in a row
        raise unnamable from None
    except errors.GatedRepoError:
        raise PermissionError(f"{hub}/{name} is gated: accept its terms there, then run: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{missing}, and the model {name} on {hub} has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{missing}, and no model {name} on {hub}; where it is a private one, first run: hf auth login"
        ) from None
    except errors.LocalEntryNotFoundError as error:
        cache = os.fspath(cache_dir or constants.HF_HUB_CACHE)
        why = f"{hub} is out of reach ({type(error.__cause__).__name__})"
        if constants.HF_HUB_OFFLINE or local_files_only:
            why = f"{'local_files_only' if local_files_only else 'HF_HUB_OFFLINE'} forbids to fetch it"
        raise FileNotFoundError(
            f"{missing}, no complete copy of {name} ({revision}) in the cache {cache}, and {why}"
        ) from error
    except Exception as error:  # the transport's own, of no common kind
        raise OSError(f"fetching {name} from {hub} failed: {type(error).__name__}: {error}") from error
    check_hashes(folder, _wanted(folder, weights))
    return folder


def _wanted(folder: str, weights: bool) -> list[str]:
    return [file for file in sorted(os.listdir(folder)) if _is_read(file, weights)]


def _is_read(file: str, weights: bool) -> bool:
    fits = any(fnmatch(file, pattern) for pattern in _FILES + _WEIGHTS * weights)
    return fits and not any(fnmatch(file, pattern) for pattern in _NEVER)
