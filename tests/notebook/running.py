"""Run a notebook as its reader does, in an empty folder and a process of its own."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from unittest.mock import patch

from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.guides.running import EXAMPLES
from tests.printed import as_stored

__all__ = ["NOTEBOOK", "as_kept", "run", "shown"]

NOTEBOOK = EXAMPLES / "distill.ipynb"
_WORDS = re.compile(r"<text[^>]*>([^<]*)</text>")
_PICTURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


def run(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as it is when all cells have run, without what depends on the machine.

    Raises CellExecutionError where a cell fails.
    """
    quiet = {"GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, quiet):
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False)
        done = client.execute(cwd=folder)
    done.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for number, cell in enumerate(done.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = list(_joined(cell.outputs))
    return done


def _joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Yield outputs, what is printed in one piece: how it was cut depends on the time."""
    last = None
    for output in outputs:
        if last is not None and last.get("name") == output.get("name", ""):
            last.text += output.text
        else:
            yield output
            last = output


def shown(notebook: NotebookNode) -> list[list[object]]:
    """Return what each cell shows: texts as they are, pictures by the words in them."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [[part for output in cell.outputs for part in _parts(output)] for cell in cells]


def as_kept(kept: object, found: object) -> bool:
    """Return whether a notebook shows what another does, its texts as they would be printed."""
    if isinstance(kept, str) and isinstance(found, str):
        return as_stored(kept, found)
    if isinstance(kept, list | tuple) and isinstance(found, list | tuple):
        return len(kept) == len(found) and all(map(as_kept, kept, found))
    return kept == found


def _parts(output: NotebookNode) -> Iterator[object]:
    if output.output_type == "stream":
        yield output.name, output.text
    for kind, data in sorted(output.get("data", {}).items()):
        text = "".join(data)
        yield kind, _PICTURE.sub("", text), Counter(_WORDS.findall(text))
