"""Whole commands beside `python -c 'import paddle'`: wall time, peak memory, what was written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.programs import saved
from tests.benchmarks.row import Case, Of, Prepare, Quantity, Row, Sample, Target, Work

__all__ = ["IMPORT_PADDLE", "ROWS"]

_IMPORT = "import paddle; assert paddle.__version__"
_MODELS = "resnet152.json", "resnet50.json"
_LEGACY = "resnet152.pdmodel", "resnet50.pdmodel"
_VISION = tuple(f"paddle.vision.models:{name}" for name in ("resnet18", "mobilenet_v1"))
_LAUNCHER = Path(__file__).with_name("launcher.py")
# How a bare description of a drawn chain is made, and laid out as it stands.
_BARE = "bare.dot"
_HUGE = 2_000_000
# Seconds that `dot` gets for all operators; it would take many minutes.
_PATIENCE = 120


def tool(says: str, writes: str, *arguments: str) -> Prepare:
    """Run graphtool; stdout holds what it `says`, and what it `writes` is there, unless empty."""
    ready = [saved(word) if word.endswith((".json", ".pdmodel")) else word for word in arguments]
    return _process([sys.executable, "-m", "graphtool", *ready], says, writes)


def python(code: str, *files: str) -> Prepare:
    """Run a line of Python with some files as its arguments."""
    return _process([sys.executable, "-c", code, *map(saved, files)], "", "")


def dot(model: str) -> Prepare:
    """Lay out all operators of a saved chain as they are."""
    from graphtool.sources import read

    edges = "".join(f'"{one}" -> "{other}"\n' for one, other in read(saved(model)).nx.edges)
    Path(_BARE).write_text(f"digraph {{\n{edges}}}\n")
    engine = shutil.which("dot")
    assert engine is not None, "Graphviz is not installed: no `dot` on the path"
    command = [engine, "-Tsvg", "-o", "bare.svg", _BARE]
    return lambda: Work(lambda: _run(command, "", "", limit=_PATIENCE))


def _process(command: Sequence[str], says: str, writes: str) -> Prepare:
    def prepare() -> Work:
        if writes:
            _remove(Path(writes))
        return Work(lambda: _run(command, says, writes))

    return prepare


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _run(command: Sequence[str], says: str, writes: str, limit: float | None = None) -> Sample:
    """Time a process from its start to its end; its peak is what the kernel says of it.

    After the limit it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, out, errors = (Path(folder, name) for name in ("answer", "out", "errors"))
        launcher = [sys.executable, "-SE", _LAUNCHER, answer, str(limit or 0)]
        with out.open("w") as to, errors.open("w") as wrongs:
            ran = subprocess.run(
                [*launcher, *command], stdout=to, stderr=wrongs, stdin=subprocess.DEVNULL
            )
        said, wrong = out.read_text(), errors.read_text()
        assert ran.returncode == 0, wrong[-500:]
        seconds, code, peak = json.loads(answer.read_text())
    if limit is not None and seconds >= limit:
        return Sample(limit, at_least=True)
    assert code == 0, f"{command} ended with {code}: {wrong[-500:]}"
    assert says in said, f"{command} said `{said[:200]}` and not `{says}`"
    size = sum(file.stat().st_size for file in _files(Path(writes))) if writes else None
    return Sample(seconds, peak, size)


def _files(path: Path) -> list[Path]:
    found = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    assert found, f"nothing was written to {path}"
    return found


IMPORT_PADDLE = Case(about="python -c 'import paddle'", make=python, arguments=(_IMPORT,))
_PEAK = Target(most=1, of=Of.PEER, quantity=Quantity.PEAK)


def _row(
    name: str,
    arguments: str,
    *targets: Target,
    says: str = "",
    writes: str = "",
    peer: Case = IMPORT_PADDLE,
    floor: Case | None = None,
    quick: bool = True,
) -> Row:
    words = arguments.split()
    return Row(
        name=name,
        about=f"graphtool {arguments}",
        ours=Case(about="the command", make=tool, arguments=(says, writes, *words)),
        peer=peer,
        floor=floor,
        targets=targets,
        quick=quick,
    )


def _within(times: float | None) -> Target:
    return Target(most=times, of=Of.PEER)


_JSON_LOAD = Case(
    about="json.load of the same file",
    make=python,
    arguments=("import json, sys; assert json.load(open(sys.argv[1]))", "deep.json"),
)
_DOT = Case(about="dot on all operators", make=dot, arguments=("skipping.json",), rounds=1)
_TWO = " ".join(_MODELS)

ROWS = (
    _row("help", "--help", _within(0.2), _PEAK, says="suggest-pairs"),
    _row("suggest-pairs", f"suggest-pairs {_TWO}", _within(0.35), _PEAK, says="logits"),
    _row(
        "suggest-pairs-pdmodel",
        f"suggest-pairs {' '.join(_LEGACY)}",
        _within(0.35),
        _PEAK,
        says="logits",
    ),
    _row(
        "suggest-pairs-json",
        f"suggest-pairs {_TWO} --json",
        _within(0.35),
        _PEAK,
        says='"kind": "logits"',
        quick=False,
    ),
    _row("inspect", f"inspect {_MODELS[0]}", _within(0.35), _PEAK, says="2048"),
    _row(
        "inspect-100k",
        "inspect deep.json",
        Target(most=None, of=Of.FLOOR),
        Target(most=None, of=Of.FLOOR, quantity=Quantity.PEAK),
        says="133,335",
        floor=_JSON_LOAD,
        quick=False,
    ),
    _row(
        "check",
        f"check {_TWO} --parameters later",
        _within(1),
        _PEAK,
        says="can be merged into resnet50.json",
    ),
    _row(
        "merge-command",
        f"merge {' '.join(_VISION)} --input 3,64,64 -o merged",
        _within(None),
        replace(_PEAK, most=None),
        says="wrote merged",
        writes="merged",
        quick=False,
    ),
    _row("render-svg", f"render {_TWO} -o pairs.svg", _within(1), _PEAK, writes="pairs.svg"),
    _row(
        "render-html",
        f"render {_TWO} -o pairs.html",
        _within(1.5),
        _PEAK,
        Target(most=_HUGE, of=Of.ABSOLUTE, quantity=Quantity.SIZE),
        writes="pairs.html",
    ),
    _row(
        "render-10k",
        "render skipping.json -o skipping.svg",
        Target(most=10, of=Of.ABSOLUTE),
        Target(most=None, of=Of.PEER),
        replace(_PEAK, most=None),
        writes="skipping.svg",
        peer=_DOT,
        quick=False,
    ),
)
