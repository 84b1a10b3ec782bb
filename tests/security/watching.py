"""Do all that reads files in a folder of a stranger's, and note what Python is asked for meanwhile.

`python -m tests.security.watching` in such a folder prints by which codes each act is refused, and
is to be, and whatever was asked for that no file may ask for.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import paddle
from paddle import nn

import graphtool as gt
from graphtool.cli import main

# Of audit events, https://docs.python.org/3/library/audit_events.html: what runs code.
_RUNNING = ("pickle.find_class", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.mkdir")
_PROCESSES = "subprocess.Popen"
_TREASURE, _EVIL = "treasure", "evil"

_asked: list[str] = []
_watching = False


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or not arguments:
        return
    first = str(arguments[0])
    opened = event == "open" and _TREASURE in first
    imported = event == "import" and _EVIL in first
    # Graphviz draws: it is what `render` runs, with no argument from a file.
    started = event == _PROCESSES and os.path.basename(first) not in ("dot", "graphviz-pure")  # noqa: PTH119
    if event in _RUNNING or opened or imported or started:
        _asked.append(f"{event} {first}")


def _codes(act: Callable[[], object]) -> str:
    global _watching
    out, err = io.StringIO(), io.StringIO()
    _watching = True
    try:
        with redirect_stdout(out), redirect_stderr(err):
            act()
    except gt.GraphtoolError as error:
        return " ".join(dict.fromkeys(found.code for found in error.report))
    finally:
        _watching = False
    return " ".join(dict.fromkeys(part[:5] for part in err.getvalue().split("error[")[1:]))


# What is done, and by which codes it is refused.
_COMMANDS = {
    "inspect net.json --all": "",
    "inspect net.pdparams": "GT013",
    "suggest-pairs net.json net.json": "",
    "suggest-pairs good.json good.json --evidence samples.npz --allow-random": "GT370",
    "suggest-pairs net.json net.json --evidence random": "GT502",
    "suggest-pairs old old --evidence random": "GT376",
    "suggest-pairs writer.json writer.json --evidence random": "GT242",
    "check net.json net.json": "GT235",
    "check old old": "GT250 GT235",
    "render net.json net.json --pairs pairs.toml -o drawn.svg": "GT101",
    "render linked -o drawn.svg": "GT613",
    "render named -o drawn.svg": "",
    "merge net.json good.json -o out": "GT502",
    "merge good.json good.json --teacher-weights net.pdparams -o out": "GT502",
    "merge old good.json --feed image=image -o out": "GT217 GT235",
    "merge good.json good.json --pairs pairs.yml -o out": "GT324",
}


def _calls() -> list[tuple[str, Callable[[], object]]]:
    graph = gt.read("good.json")
    program, optimizer = _trained()
    objects: dict[str, Any] = {"evidence": "objects.npy", "allow_random": True}
    return [
        ("GT013", lambda: gt.read("net.pdparams")),
        ("GT324", lambda: gt.read_recipe("pairs.yml", teacher=graph, student=graph)),
        ("GT502", lambda: gt.load_parameters(program, "net.pdparams")),
        ("GT240", lambda: gt.load_parameters(program, "old")),
        ("GT613", lambda: gt.load_merged("linked")),
        ("", lambda: gt.load_merged("named")),
        ("GT621", lambda: gt.load_checkpoint("net.pdparams", program, optimizer)),
        ("GT013", lambda: gt.for_training("net.pdparams")),
        ("GT370", lambda: gt.suggest_pairs("good.json", "good.json", **objects)),
        ("GT613", lambda: gt.render("linked")),
    ]


def _trained() -> tuple[Any, Any]:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        loss = nn.Linear(3, 2)(paddle.static.data("x", [-1, 3])).mean()
        optimizer = paddle.optimizer.SGD(0.1)
        optimizer.minimize(loss)
    return program, optimizer


if __name__ == "__main__":
    acts = [(codes, lambda line=line: main(line.split())) for line, codes in _COMMANDS.items()]
    acts += _calls()
    sys.addaudithook(_note)
    said = [_codes(act) for _, act in acts]
    # What is typed runs: the watch works.
    before = list(_asked)
    _codes(lambda: main(["inspect", "evil:build"]))
    wanted = [codes for codes, _ in acts]
    print(json.dumps({"said": said, "wanted": wanted, "asked": before, "ran": _asked != before}))
