"""Do all that reads files in a folder of a stranger's, and note what Python is asked for meanwhile.

`python -m tests.security.watching` in such a folder prints, for each act, the codes that were said,
and at the end whatever was asked for that no file may ask for.
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


_COMMANDS = {
    "inspect": "inspect net.json --all",
    "inspect a pickle": "inspect net.pdparams",
    "suggest": "suggest-pairs net.json net.json",
    "suggest on objects": "suggest-pairs good.json good.json --evidence samples.npz --allow-random",
    "suggest with a pickle": "suggest-pairs net.json net.json --evidence random",
    "suggest with a link": "suggest-pairs old old --evidence random",
    "suggest what writes": "suggest-pairs writer.json writer.json --evidence random",
    "check": "check net.json net.json",
    "check folders": "check old old",
    "render": "render net.json net.json --pairs pairs.toml -o drawn.svg",
    "render a link": "render linked -o drawn.svg",
    "render names": "render named -o drawn.svg",
    "merge a pickle": "merge net.json good.json -o out",
    "merge weights": "merge good.json good.json --teacher-weights net.pdparams -o out",
    "merge a link": "merge old good.json --feed image=image -o out",
    "merge pairs": "merge good.json good.json --pairs pairs.yml -o out",
}


def _calls() -> dict[str, Callable[[], object]]:
    graph = gt.read("good.json")
    program, optimizer = _trained()
    return {
        "read": lambda: gt.read("net.pdparams"),
        "read_recipe": lambda: gt.read_recipe("pairs.yml", teacher=graph, student=graph),
        "load_parameters": lambda: gt.load_parameters(program, "net.pdparams"),
        "load_parameters of a folder": lambda: gt.load_parameters(program, "old"),
        "load_merged": lambda: gt.load_merged("linked"),
        "load_merged, names": lambda: gt.load_merged("named"),
        "load_checkpoint": lambda: gt.load_checkpoint("net.pdparams", program, optimizer),
        "for_training": lambda: gt.for_training("net.pdparams"),
        "suggest_pairs": lambda: gt.suggest_pairs(
            "good.json", "good.json", evidence="objects.npy", allow_random=True
        ),
        "render": lambda: gt.render("linked"),
    }


def _trained() -> tuple[Any, Any]:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        loss = nn.Linear(3, 2)(paddle.static.data("x", [-1, 3])).mean()
        optimizer = paddle.optimizer.SGD(0.1)
        optimizer.minimize(loss)
    return program, optimizer


if __name__ == "__main__":
    calls = _calls()
    sys.addaudithook(_note)
    said = {name: _codes(lambda line=line: main(line.split())) for name, line in _COMMANDS.items()}
    said |= {f"gt.{name}": _codes(act) for name, act in calls.items()}
    # What is typed runs: the watch works.
    before = list(_asked)
    typed = _codes(lambda: main(["inspect", "evil:build"]))
    print(json.dumps({"said": said, "asked": before, "typed": typed, "ran": _asked != before}))
