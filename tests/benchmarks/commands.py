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
from tests.benchmarks.row import Case, Of, Prepare, Quantity, Row, Sample, Target, Work

__all__ = ["ROWS"]

_IMPORT = "import paddle; assert paddle.__version__"
_LAUNCHER = Path(__file__).with_name("launcher.py")
# How a bare description of a drawn chain is made, and laid out as it stands.
_BARE = "bare.dot"
_HUGE = 2_000_000
# Seconds that `dot` gets for all operators; it would take many minutes.
_PATIENCE = 120


def tool(says: str, writes: str, *arguments: str) -> Prepare:
    """Run graphtool; stdout holds what it `says`, and what it `writes` is there, unless empty."""
    ready = [saved(word) if word.endswith((".json", ".pdmodel")) else word for word in arguments]
    command = [sys.executable, "-m", "graphtool", *ready]

    def prepare() -> Work:
        shutil.rmtree(writes, ignore_errors=True)
        if writes:
            Path(writes).unlink(missing_ok=True)
        return Work(lambda: _run(command, says, writes))

    return prepare


def python(code: str, *files: str) -> Prepare:
    """Run a line of Python with some files as its arguments."""
    command = [sys.executable, "-c", code, *map(saved, files)]
    return lambda: Work(lambda: _run(command))


def dot(model: str) -> Prepare:
    """Lay out all operators of a saved chain as they are."""
    from graphtool.sources import read

    edges = "".join(f'"{one}" -> "{other}"\n' for one, other in read(saved(model)).nx.edges)
    Path(_BARE).write_text(f"digraph {{\n{edges}}}\n")
    engine = shutil.which("dot")
    assert engine is not None, "Graphviz is not installed: no `dot` on the path"
    command = [engine, "-Tsvg", "-o", "bare.svg", _BARE]
    return lambda: Work(lambda: _run(command, limit=_PATIENCE))


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


_IMPORT_PADDLE = Case(about="python -c 'import paddle'", make=python, arguments=(_IMPORT,))


def _row(
    name: str,
    arguments: str,
    *targets: Target,
    says: str = "",
    writes: str = "",
    peer: Case = _IMPORT_PADDLE,
    floor: Case | None = None,
    quick: bool = True,
) -> Row:
    return Row(
        name=name,
        about=f"graphtool {arguments}",
        ours=Case(about="the command", make=tool, arguments=(says, writes, *arguments.split())),
        peer=peer,
        floor=floor,
        targets=targets,
        quick=quick,
    )


def _within(times: float | None, peak: float | None = 1) -> tuple[Target, Target]:
    return Target(times, Of.PEER), Target(peak, Of.PEER, Quantity.PEAK)


_JSON_LOAD = Case(
    about="json.load of the same file",
    make=python,
    arguments=("import json, sys; assert json.load(open(sys.argv[1]))", "deep.json"),
)
_DOT = Case(about="dot on all operators", make=dot, arguments=("skipping.json",), rounds=1)
_FLOOR = Target(None, Of.FLOOR), Target(None, Of.FLOOR, Quantity.PEAK)
_TWO = "resnet152.json resnet50.json"
_LEGACY = "resnet152.pdmodel resnet50.pdmodel"
_VISION = "paddle.vision.models:resnet18 paddle.vision.models:mobilenet_v1"
_MERGED = f"merge {_VISION} --input 3,64,64 -o merged"
_FITS = "can be merged into resnet50.json"
_PAGE = Target(_HUGE, Of.ABSOLUTE, Quantity.SIZE)

ROWS = (
    _row("help", "--help", *_within(0.2), says="suggest-pairs"),
    _row("suggest-pairs", f"suggest-pairs {_TWO}", *_within(0.35), says="logits"),
    _row("suggest-pairs-pdmodel", f"suggest-pairs {_LEGACY}", *_within(0.35), says="logits"),
    _row(
        "suggest-pairs-json",
        f"suggest-pairs {_TWO} --json",
        *_within(0.35),
        says='"kind": "logits"',
        quick=False,
    ),
    _row("inspect", "inspect resnet152.json", *_within(0.35), says="2048"),
    _row(
        "inspect-100k",
        "inspect deep.json",
        *_FLOOR,
        says="133,335",
        floor=_JSON_LOAD,
        quick=False,
    ),
    _row("check", f"check {_TWO} --parameters later", *_within(1), says=_FITS),
    _row(
        "merge-command",
        _MERGED,
        *_within(None, None),
        says="wrote merged",
        writes="merged",
        quick=False,
    ),
    _row("render-svg", f"render {_TWO} -o pairs.svg", *_within(1), writes="pairs.svg"),
    _row("render-html", f"render {_TWO} -o pairs.html", *_within(1.5), _PAGE, writes="pairs.html"),
    _row(
        "render-10k",
        "render skipping.json -o skipping.svg",
        Target(10, Of.ABSOLUTE),
        *_within(None, None),
        writes="skipping.svg",
        peer=_DOT,
        quick=False,
    ),
)
