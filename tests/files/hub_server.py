"""A server on the loopback address that speaks as much of the Hugging Face hub's protocol as a snapshot needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_INFO = re.compile(r"/api/models/(?P<name>.+?)(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(r"/api/models/(?P<name>.+?)/tree/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<name>.+?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_MOST_REQUESTS = 100  # of one server's life; a client that asks for ever is refused


class Hub(ThreadingHTTPServer):
    """models: the files of each. `asked` lists every request. A model named gated is gated; broken breaks off."""

    daemon_threads = True

    def __init__(self, models: Mapping[str, Mapping[str, bytes]], revisions: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.revisions = (*revisions, COMMIT)
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    timeout = 5
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if len(self.server.asked) > _MOST_REQUESTS:
            return self._answer(429, {"X-Error-Message": "too many requests"})
        for pattern, answer in ((_TREE, self._tree), (_INFO, self._info), (_FILE, self._file)):
            if match := pattern.fullmatch(path):
                return self._model(answer, **match.groupdict())
        self._answer(404, {})

    do_HEAD = do_GET

    def _model(self, answer: Any, name: str, revision: str | None, file: str = "") -> None:
        if name.endswith("/gated"):
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if name not in self.server.models:
            return self._answer(404, {"X-Error-Code": "RepoNotFound"})
        if (revision or "main") not in self.server.revisions:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        answer(name, *([file] if file else []))

    def _info(self, name: str) -> None:
        files = [{"rfilename": file} for file in self.server.models[name]]
        self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "tags": [], "downloads": 0,
                    "private": False})  # fmt: skip

    def _tree(self, name: str) -> None:
        files = self.server.models[name].items()
        self._json([{"type": "file", "path": file, "size": len(data), "oid": _tag(data)} for file, data in files])

    def _file(self, name: str, file: str) -> None:
        data = self.server.models[name].get(file)
        if data is None:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_tag(data)}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if name.endswith("/broken") and self.command == "GET":
            return self._answer(400, {"X-Error-Message": "this file is broken"})
        self._answer(200, headers, data)

    def _json(self, value: Any) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _tag(data: bytes) -> str:
    """The hash that the hub gives: of weights SHA-256, of other files git's."""
    if data[8:9] == b"{":
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(models: Mapping[str, Mapping[str, bytes]], revisions: tuple[str, ...] = ("main", "v2")) -> Iterator[Hub]:
    with Hub(models, revisions) as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join(10)
