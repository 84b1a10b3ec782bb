"""No line of graphtool's unpickles, evaluates, or imports by name, but where the user typed it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import graphtool

pytestmark = pytest.mark.slow

PACKAGE = Path(graphtool.__file__).parent

# `paddle.load`, `paddle.jit.load` and `paddle.static.load` unpickle, `numpy.load` may.
LOADING = {"load", "loads", "load_state_dict", "Unpickler", "load_inference_model", "load_vars"}
EVALUATING = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
# Formats of plain data, NumPy's as tested below, and functions of graphtool's own. Of PyYAML only
# `safe_load` is called, which makes plain data.
PLAIN = {"json.loads", "np.load", "weights.load", "self.load", "load"}
# These import what a call or a command line names, or parts of graphtool itself.
IMPORTING = {"import_module", "resolve_name"}
IMPORTERS = {
    "__init__.py",
    "cli/_explain.py",
    "cli/_running.py",
    "evidence/samples.py",
    "sources/builder.py",
    "backend/paddle.py",
}


@pytest.fixture(scope="module")
def calls() -> list[tuple[str, str]]:
    """Return each call as it is spelt, with the file that it stands in."""
    return [
        (path.relative_to(PACKAGE).as_posix(), spelt(node.func))
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    ]


def spelt(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{spelt(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def test_nothing_is_unpickled_or_evaluated(calls: list[tuple[str, str]]) -> None:
    loading = {one for one in calls if one[1].rpartition(".")[2] in LOADING}
    # The unpickler that knows stand-ins alone, see test_pickles.
    loading.remove(("readers/pickles.py", "?.load"))
    assert {call for _, call in loading} <= PLAIN
    assert not [one for one in calls if one[1] in EVALUATING]


def test_numpy_makes_plain_data_alone() -> None:
    texts = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py")]
    loads = [line for text in texts for line in text.splitlines() if "np.load(" in line]
    assert loads
    assert all("allow_pickle=False" in line for line in loads)


def test_modules_are_imported_by_name_in_few_places_alone(calls: list[tuple[str, str]]) -> None:
    found = {file for file, call in calls if call.rpartition(".")[2] in IMPORTING}
    assert found == IMPORTERS
