"""Everything that touches a disk: safetensors, JSON, atomic writes, the hub's cache."""

from npora.files.atomic import write_atomically
from npora.files.header import SafetensorsError, read_header
from npora.files.hub import resolve
from npora.files.json import read_json, write_json
from npora.files.safetensors import load_file, load_metadata, save_file
from npora.files.weights import load_weights
from npora.files.writable import check_writable

__all__ = [
    "SafetensorsError", "check_writable", "load_file", "load_metadata", "load_weights", "read_header", "read_json",
    "resolve", "save_file", "write_atomically", "write_json",
]  # fmt: skip
