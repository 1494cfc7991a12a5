"""Imports run one way, and `import npora` needs NumPy and the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import npora
from npora.models import auto

ROOT = Path(npora.__file__).parent
# Each package may import from those in earlier rows.
LAYERS = [
    {"machine"},
    {"nn", "files", "stored"},
    {"optim", "lora", "models", "check", "metrics"},
    {"data", "train", "catalogue", "auto_peft", "gguf_adapter", "study", "testing"},
    {"commands", "cli"},
]
# Within a row `train` builds on `data`, `check` takes steps of `optim`, `study` shows the `catalogue`, `files` is for
# all, and `cli` builds on `commands`.
SIDEWAYS = {("train", "data"), ("cli", "commands"), ("check", "optim"), ("study", "catalogue")}


def imports(path: Path) -> set[str]:
    """The parts of npora that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "npora" else [node.module]
        found |= {name.split(".")[1] for name in names if name and name.startswith("npora.")}
    return found


def files(path: Path) -> set[Path]:
    """The files of npora that a file imports, also inside functions and for types alone."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = ROOT.parent.joinpath(*name.split("."))
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    # A package's __init__ gathers the names of its files; what a file takes from one of these is not a use of all.
    return {file for file in found if ROOT in file.parents and file.name != "__init__.py"} - {path}


def test_no_file_imports_what_imports_it() -> None:
    left = {path: files(path) for path in ROOT.rglob("*.py")}
    while free := {path for path, imported in left.items() if not imported & left.keys()}:
        for path in free:
            del left[path]
    circles = {path.relative_to(ROOT): [other.name for other in left[path] & left.keys()] for path in left}
    assert not circles


def rank(part: str) -> int:
    return next(i for i, row in enumerate(LAYERS) if part in row)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    for other in imports(path) - {part}:
        assert rank(other) < rank(part) or (part, other) in SIDEWAYS, f"{path} imports npora.{other}"


def test_importing_npora_imports_numpy_and_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import npora, npora.cli; npora.cli.commands_for([]); "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # NumPy's own compiled parts register cython_runtime and names that start with an underscore.
    names = {name for name in result.stdout.split() if not name.startswith(("_", "numpy", "cython_runtime"))}
    assert names == {"npora"}


def test_a_command_imports_neither_the_check_nor_a_family_before_it_needs_them() -> None:
    program = (
        "import sys; from npora.cli import main\n"
        "try: main(['finetune', '--help'])\n"
        "except SystemExit: print(*{'npora.check', 'npora.models.families'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not result.stderr.strip()


def test_no_file_is_longer_than_one_sitting() -> None:
    tests = Path(__file__).parent
    for path in (path for folder in (ROOT, tests, tests.parent / "examples") for path in folder.rglob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path


def test_nothing_is_ever_unpickled() -> None:
    unpickle = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
    bridge = ROOT / "check" / "bridges" / "torch.py"  # which loads nothing
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text)))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & unpickle - ({"torch"} if path == bridge else set()), path
        assert ".load" not in text or path != bridge, path
        assert "allow_pickle" not in text and "__import__" not in text, path
        assert "import_module" not in text or path == ROOT / "models" / "auto.py", path


def test_what_is_imported_by_name_is_a_family_of_the_table_whatever_a_file_says() -> None:
    assert auto.tasks_of("os") == {} and auto.tasks_of("../../os") == {}
    with pytest.raises(KeyError):
        auto.family("os")
    for model_type in auto.FAMILIES:
        assert auto.family(model_type).__name__.startswith("npora.models.families.")
        tasks = auto.tasks_of(model_type)
        assert tasks and {task: kind.task_name for task, kind in tasks.items()} == {task: task for task in tasks}
