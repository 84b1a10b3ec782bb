"""Whole commands beside `python -c 'import paddle'`: wall time, peak memory, what was written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.programs import saved
from tests.benchmarks.sampling import Case, Row, Sample, Target, Work

_IMPORT = "import paddle; assert paddle.__version__"
_LAUNCHER = Path(__file__).with_name("launcher.py")
# Seconds that `dot` gets for all operators; it would take many minutes.
_PATIENCE = 120


def tool(says: str, writes: str, arguments: str) -> Work:
    """Run graphtool; stdout holds what it `says`, and what it `writes` is there, unless empty."""
    words = arguments.split()
    ready = [saved(word) if word.endswith((".json", ".pdmodel")) else word for word in words]
    if writes:
        shutil.rmtree(writes, ignore_errors=True)
        Path(writes).unlink(missing_ok=True)
    yield lambda: _run([sys.executable, "-m", "graphtool", *ready], says, writes)


def python(code: str, *files: str) -> Work:
    """Run a line of Python with some files as its arguments."""
    command = [sys.executable, "-c", code, *map(saved, files)]
    yield lambda: _run(command)


def dot(model: str) -> Work:
    """Lay out all operators of a saved chain as they are."""
    from graphtool.sources import read

    edges = "".join(f'"{one}" -> "{other}"\n' for one, other in read(saved(model)).nx.edges)
    Path("bare.dot").write_text(f"digraph {{\n{edges}}}\n")
    engine = shutil.which("dot")
    assert engine is not None, "Graphviz is not installed: no `dot` on the path"
    yield lambda: _run([engine, "-Tsvg", "-o", "bare.svg", "bare.dot"], limit=_PATIENCE)


def _run(
    command: Sequence[str], says: str = "", writes: str = "", limit: float | None = None
) -> Sample:
    """Time a process from its start to its end; its peak is what the kernel says of it.

    After the limit it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer")
        launcher = [sys.executable, "-SE", _LAUNCHER, answer, str(limit or 0)]
        ran = subprocess.run(
            [*launcher, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert ran.returncode == 0, ran.stderr[-500:]
        seconds, code, peak = json.loads(answer.read_text())
    if limit is not None and seconds >= limit:
        return Sample(limit, at_least=True)
    assert code == 0, f"{command} ended with {code}: {ran.stderr[-500:]}"
    assert says in ran.stdout, f"{command} said `{ran.stdout[:200]}` and not `{says}`"
    if not writes:
        return Sample(seconds, peak)
    path = Path(writes)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    assert files, f"nothing was written to {path}"
    return Sample(seconds, peak, sum(file.stat().st_size for file in files))


_IMPORT_PADDLE = Case(python, (_IMPORT,), "python -c 'import paddle'")


def _row(
    name: str,
    arguments: str,
    targets: Sequence[Target],
    says: str = "",
    writes: str = "",
    peer: Case = _IMPORT_PADDLE,
    floor: Case | None = None,
    *,
    quick: bool = True,
) -> Row:
    ours = Case(tool, (says, writes, arguments))
    return Row(name, f"graphtool {arguments}", ours, targets, peer, floor, quick=quick)


def _within(times: float | None, peak: float | None = 1) -> tuple[Target, Target]:
    return Target(times, "peer"), Target(peak, "peer", "peak")


_LOAD = "import json, sys; assert json.load(open(sys.argv[1]))"
_JSON_LOAD = Case(python, (_LOAD, "deep.json"), "json.load of the same file")
_DOT = Case(dot, ("skipping.json",), "dot on all operators", rounds=1)
_FLOOR = Target(None, "floor"), Target(None, "floor", "peak")
_TWO = "resnet152.json resnet50.json"
_LEGACY = "resnet152.pdmodel resnet50.pdmodel"
_VISION = "paddle.vision.models:resnet18 paddle.vision.models:mobilenet_v1"
_MERGE = f"merge {_VISION} --input 3,64,64 -o merged"
_FITS = "can be merged into resnet50.json"
_JSON = f"suggest-pairs {_TWO} --json"
_DRAW = "render skipping.json -o skipping.svg"
_SMALL_PAGE = *_within(1.5), Target(2_000_000, "absolute", "size")
_TEN_SECONDS = Target(10, "absolute"), *_within(None, None)

ROWS = (
    _row("help", "--help", _within(0.2), "suggest-pairs"),
    _row("suggest-pairs", f"suggest-pairs {_TWO}", _within(0.35), "logits"),
    _row("suggest-pairs-pdmodel", f"suggest-pairs {_LEGACY}", _within(0.35), "logits"),
    _row("suggest-pairs-json", _JSON, _within(0.35), '"kind": "logits"', quick=False),
    _row("inspect", "inspect resnet152.json", _within(0.35), "2048"),
    _row("inspect-100k", "inspect deep.json", _FLOOR, "133,335", floor=_JSON_LOAD, quick=False),
    _row("check", f"check {_TWO} --parameters later", _within(1), _FITS),
    _row("merge-command", _MERGE, _within(None, None), "wrote merged", "merged", quick=False),
    _row("render-svg", f"render {_TWO} -o pairs.svg", _within(1), writes="pairs.svg"),
    _row("render-html", f"render {_TWO} -o pairs.html", _SMALL_PAGE, writes="pairs.html"),
    _row("render-10k", _DRAW, _TEN_SECONDS, writes="skipping.svg", peer=_DOT, quick=False),
)
