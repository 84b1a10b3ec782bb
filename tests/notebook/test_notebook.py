"""The notebook is as it is when it has just been run from its first cell to its last."""

from __future__ import annotations

import copy
import re

import pytest

pytest.importorskip("nbclient", reason="runs notebooks: it comes with the extra `dev`")

import nbformat

from tests.notebook.running import NOTEBOOK, as_kept, run, shown

_DEPENDS_ON_THE_MACHINE = re.compile(
    r"/(tmp|root|home|usr|opt)/|site-packages|\b0x[0-9a-f]{6,}|\d\d:\d\d|\d (ms|seconds)\b"
)


@pytest.mark.nightly
def test_it_is_whole_and_free_of_errors_times_and_paths() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {output.output_type for cell in code for output in cell.outputs} == {
        "stream",
        "execute_result",
    }
    assert _DEPENDS_ON_THE_MACHINE.search(str(shown(notebook))) is None
    assert len(NOTEBOOK.read_bytes()) < 300_000


def test_it_shows_pairs_a_report_and_a_picture() -> None:
    kinds = [
        kind
        for cell in shown(nbformat.read(NOTEBOOK, as_version=4))
        for kind, *_ in cell
        if kind == "text/html"
    ]
    text = NOTEBOOK.read_text(encoding="utf-8")

    assert len(kinds) == 3
    assert "<svg" in text
    assert "error[GT210]" in text
    assert "bit-equal" in text


@pytest.mark.pir
@pytest.mark.nightly
def test_it_shows_what_its_cells_show_now() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    kept, found = shown(notebook), shown(run(copy.deepcopy(notebook)))
    assert len(kept) == len(found)
    for cell, (one, other) in enumerate(zip(kept, found, strict=True)):
        assert as_kept(one, other), f"code cell {cell} shows\n{other}\nand not\n{one}"
