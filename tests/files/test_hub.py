"""A name on the hub: fetched once, only what npora reads, and found again with the hub gone. All on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import load_weights, resolve, save_file
from npora.files.hashes import check_hashes
from tests.files.hub_server import COMMIT, Hub, serving

LIGHT = {"config.json", "vocab.txt", "spiece.model", "chat_template.jinja"}  # what npora fetches beside the weights

# Any other address is refused before a packet leaves, and whatever the settings of the machine are.
CLIENT = """
import ipaddress, json, sys

def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = args[1][0] if event == "socket.connect" else args[0]
        assert ipaddress.ip_address(host).is_loopback, f"{event} {host}"

sys.addaudithook(guard)
from npora.files import resolve

for keywords in json.loads(sys.argv[1]):
    try:
        print(resolve(**keywords))
    except Exception as error:
        print(type(error).__name__, *str(error).split())
"""


def client(home: Path, hub: str, *asked: dict[str, Any], **environment: str) -> list[str]:
    """What `resolve` gives or raises for each of the keywords, in a process of its own: the package reads the
    environment when it is imported."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    settings = {
        "HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", **environment,
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(asked)], cwd=Path(__file__).parents[2], env={**clean, **settings},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def asking(name: str, **keywords: Any) -> dict[str, Any]:
    return {"name_or_path": name, **keywords}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A tiny checkpoint and what may lie beside one."""
    save_file({"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "x.safetensors")
    weights = (tmp_path / "x.safetensors").read_bytes()
    return {
        "config.json": b'{"model_type": "bert"}', "model.safetensors": weights, "vocab.txt": b"a\nb\n",
        "spiece.model": b"s", "chat_template.jinja": b"{{ x }}",
        "README.md": b"#", "pytorch_model.bin": b"\x80", "onnx/model.onnx": b"o", "onnx/config.json": b"{}",
        "consolidated.safetensors": weights, "tf_model.h5": b"h", "run.py": b"print()", ".gitattributes": b"",
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _needs_the_package() -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")


def fetched(hub: Hub) -> set[str]:
    return {line.rsplit("/", 1)[1] for line in hub.asked if line.startswith("GET") and "/resolve/" in line}


def test_a_name_is_fetched_once_and_found_again_with_the_hub_gone(tmp_path: Path, files: dict[str, bytes]) -> None:
    home = tmp_path / "home"
    with serving({"org/tiny": files}) as hub:
        (path,) = client(home, hub.address, asking("org/tiny"))
        assert {entry.name for entry in Path(path).iterdir()} == {*LIGHT, "model.safetensors"}
        assert Path(path).name == COMMIT and Path(path).is_relative_to(home)
        assert fetched(hub) == {*LIGHT, "model.safetensors"}
        assert load_weights(path)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]  # through the cache's links
        hub.asked.clear()
        assert client(home, hub.address, asking("org/tiny"), asking("org/tiny@main")) == [path, path]
        assert fetched(hub) == set()
    gone = [asking("org/tiny"), asking("org/other")]
    again, error = client(home, hub.address, *gone)
    assert again == path
    assert error.startswith(
        "FileNotFoundError there is no directory org/other, no complete copy of org/other (main) in"
    )
    assert f"{hub.address} is out of reach (Connect" in error
    again, error = client(home, hub.address, *gone, HF_HUB_OFFLINE="1")
    assert again == path
    assert error.endswith(f"in the cache {home / 'hub'}, and HF_HUB_OFFLINE forbids to fetch it")


def test_with_local_files_only_the_hub_is_not_asked(tmp_path: Path, files: dict[str, bytes]) -> None:
    with serving({"org/tiny": files, "org/other": files}) as hub:
        (path,) = client(tmp_path, hub.address, asking("org/tiny"))
        hub.asked.clear()
        again, error = client(
            tmp_path, hub.address, *(asking(name, local_files_only=True) for name in ("org/tiny", "org/other"))
        )
    assert again == path and not hub.asked
    assert error.endswith("and local_files_only forbids to fetch it")


def test_what_the_hub_does_not_give_is_said(tmp_path: Path, files: dict[str, bytes]) -> None:
    with serving({"org/tiny": files, "org/broken": files}) as hub:
        names = ["org/missing", "org/gated", "org/tiny@v3", "org/broken", "a..b", "a/b/c", "./tiny", "org/tiny@v3"]
        missing, gated, revision, broken, dots, slashes, local, both = client(
            tmp_path, hub.address, *map(asking, names[:-1]), asking("org/tiny@v3", revision="v2")
        )
    assert missing == (
        f"FileNotFoundError there is no directory org/missing, and no model org/missing on {hub.address}; where it is "
        "a private one, first run: hf auth login"
    )
    assert gated.startswith(f"PermissionError {hub.address}/org/gated is gated: accept its terms")
    assert revision.endswith(f"and the model org/tiny on {hub.address} has no revision v3")
    assert broken.startswith(f"OSError fetching org/broken from {hub.address} failed: ")
    for error, name in ((dots, "a..b"), (slashes, "a/b/c"), (local, "./tiny")):
        assert error == (
            f"FileNotFoundError there is no directory {name}, and no model on the Hugging Face hub can have this name "
            "(org/name)"
        )
    assert both == "ValueError org/tiny@v3 asks for the revision v3, and revision='v2' for another"
    assert not [line for line in hub.asked if "a/b" in line or ".." in line]


def test_a_revision_a_cache_and_no_weights_may_be_asked_for(tmp_path: Path, files: dict[str, bytes]) -> None:
    cache = str(tmp_path / "cache")
    with serving({"tiny": files}) as hub:
        (light,) = client(tmp_path / "home", hub.address, asking("tiny@v2", cache_dir=cache, weights=False))
        assert fetched(hub) == LIGHT
        hub.asked.clear()
        (full,) = client(tmp_path / "home", hub.address, asking("tiny", revision="v2", cache_dir=cache))
        assert fetched(hub) == {"model.safetensors"}
    assert light == full and Path(full).is_relative_to(cache)
    assert any("/api/models/tiny/revision/v2" in line for line in hub.asked)


def test_a_directory_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import of it fails
    assert resolve(tmp_path) == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("org/tiny@v2").mkdir(parents=True)
    assert resolve("org/tiny@v2") == "org/tiny@v2"
    Path("org/file").touch()
    with pytest.raises(NotADirectoryError, match="org/file is a file; pass the directory that holds it"):
        resolve("org/file")
    with pytest.raises(
        FileNotFoundError, match=r"there is no directory /no/such, and no model on the Hugging Face hub"
    ):
        resolve("/no/such")
    with pytest.raises(ImportError, match=r'no directory org/tiny; fetching .* pip install "npora\[hf\]"'):
        resolve("org/tiny")


def blob_of(snapshot: str, name: str) -> Path:
    return Path(snapshot, name).resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_the_hub_gave_is_refused(tmp_path: Path, files: dict[str, bytes], name: str) -> None:
    asked = asking("org/tiny", local_files_only=True)
    with serving({"org/tiny": files}) as hub:
        (path,) = client(tmp_path, hub.address, asking("org/tiny"))
    blob = blob_of(path, name)
    assert len(blob.name) == (64 if name == "model.safetensors" else 40)
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="is not what the hub gave"):
        resolve(path)  # by its place in the cache too
    (error,) = client(tmp_path, hub.address, asked)
    assert error.startswith(f"ValueError {path}/{name} is not what the hub gave: its hash there was {blob.name}")
    assert f"remove {blob} and load it again" in error
    blob.write_bytes(content)
    assert client(tmp_path, hub.address, asked) == [path]


def test_a_file_is_checked_once_and_again_where_it_has_changed(
    tmp_path: Path, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with serving({"org/tiny": files}) as hub:
        (path,) = client(tmp_path, hub.address, asking("org/tiny"))
    caplog.set_level("INFO", logger="npora")
    check_hashes(path, ["model.safetensors"])
    assert not caplog.records  # the process that fetched it has
    os.utime(blob_of(path, "model.safetensors"))
    check_hashes(path, ["model.safetensors"])
    check_hashes(path, ["model.safetensors"])
    assert len(caplog.records) == 1 and "checking" in caplog.records[0].message


def test_it_is_said_where_a_file_cannot_be_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"a copy, as on Windows")
    for _ in range(2):
        check_hashes(str(tmp_path), ["model.safetensors"])
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'model.safetensors'} is not checked against the hub's hash, which the cache does not tell"
    ]


def test_of_a_directory_no_revision_is_asked_but_the_usual_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve(tmp_path, "main") == resolve(tmp_path) == str(tmp_path) and not caplog.messages
    resolve(tmp_path, "v2")
    assert caplog.messages == [f"{tmp_path} is a directory, which has no revision 'v2': it is read as it is"]
    (model := tmp_path / "model.gguf").touch()
    assert resolve(model, "v2") == str(model)
    assert caplog.messages[1:] == [f"{model} is a file, which has no revision 'v2': it is read as it is"]


def test_what_is_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dict[str, Any]()

    def download(name: str, **keywords: Any) -> str:
        asked.update(name=name, **keywords)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    expected = {"name": "org/tiny", "revision": "main", "cache_dir": None, "local_files_only": False, "token": None,
                "allow_patterns": ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"],
                "ignore_patterns": ["*/*", "consolidated*"]}  # fmt: skip
    assert resolve("org/tiny") == str(tmp_path) and asked == expected
    resolve("org/tiny@v2", cache_dir=tmp_path, weights=False, local_files_only=True, token="t")
    assert asked == {**expected, "revision": "v2", "cache_dir": str(tmp_path), "local_files_only": True, "token": "t",
                     "allow_patterns": ["*.json", "*.txt", "*.model", "*.jinja"]}  # fmt: skip


@pytest.mark.parametrize("offline, local, why", [(False, False, r"http\S+ is out of reach \(KeyError\)"),
                                                 (True, False, "HF_HUB_OFFLINE forbids to fetch it"),
                                                 (False, True, "local_files_only forbids to fetch it")])  # fmt: skip
def test_why_nothing_is_fetched_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool, local: bool, why: str
) -> None:
    from huggingface_hub import constants, errors

    def download(name: str, **keywords: Any) -> str:
        raise errors.LocalEntryNotFoundError("not there") from KeyError("connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(FileNotFoundError, match=rf"no complete copy of org/tiny \(main\) in the cache .*, and {why}$"):
        resolve("org/tiny", local_files_only=local)


@pytest.mark.parametrize("weights", [True, False])
def test_what_is_read_of_a_snapshot_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one that is named by its place, and of one that is fetched."""
    (tmp_path / "blobs").mkdir()
    (snapshot := tmp_path / "snapshots" / "commit").mkdir(parents=True)
    for name in ("b.json", "a.txt", "model.safetensors", "consolidated.safetensors", "run.py"):
        (snapshot / name).touch()
    monkeypatch.setattr("npora.files.hashes._seen", set())
    resolve(snapshot, weights=weights)
    names = ["a.txt", "b.json", "model.safetensors"][: 3 if weights else 2]
    said = [f"{snapshot / name} is not checked against the hub's hash, which the cache does not tell" for name in names]
    assert caplog.messages == said
    monkeypatch.setattr("npora.files.hashes._seen", set())
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **keywords: str(snapshot))
    resolve("org/tiny", weights=weights)
    assert caplog.messages == said * 2
