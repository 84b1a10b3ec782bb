"""Every command and call that writes; what it writes over, and what its process does first."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from graphtool.cli import main
from tests.faults.children import run_child

__all__ = ["CNN", "COMMANDS", "Command"]

CNN = str(Path(__file__).parents[1] / "fixtures" / "3.3.1" / "cnn.json")
# As seen from the folder in which a command runs.
_MODELS = ("../../models/teacher/inference.json", "../../models/student/inference.json")
# Calls by what stands for a command's name.
_calls: dict[str, Callable[..., object]] = {}


def _import_commands(_: Path) -> None:
    """Import what commands import, once for all children."""
    for module in ("_running", "_suggest", "_merge", "_render", "_inspect"):
        import_module(f"graphtool.cli.{module}")
    import_module("graphtool.rendering.picture")


@dataclass(frozen=True)
class Command:
    """A command line, run in a folder of its own; `over` wrote what is there before."""

    argv: tuple[str, ...]
    over: tuple[str, ...] | None = None
    load: Callable[[Path], None] = _import_commands

    def prepare(self, folder: Path) -> None:
        """Make what is there before: others' files, and what an earlier run wrote."""
        (folder / "notes.txt").write_text("others")
        if self.over is not None:
            # In a child, too: what Paddle's executor starts does not outlive a fork.
            run_child(lambda: _run(self.over or (), folder), Path(os.devnull))

    @property
    def is_call(self) -> bool:
        """Tell a call of the library, where only an interrupt is an exception."""
        return self.argv[0] in _calls

    def work(self, folder: Path) -> int:
        """Run the command in a folder, for a child that ends with it."""
        return _run(self.argv, folder)


def _run(argv: tuple[str, ...], folder: Path) -> int:
    os.chdir(folder)
    if argv[0] not in _calls:
        sys.argv = ["graphtool", *argv]
        return main()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _calls[argv[0]](*argv[1:])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _build_models(root: Path) -> None:
    """Save two models; in a child, since Paddle's executor does not outlive a fork."""
    from tests.cli.test_merge import exported

    def save() -> int:
        exported(root / "models" / "teacher", 8)
        exported(root / "models" / "student", 4, "x")
        return 0

    assert run_child(save, root / "said") == 0, (root / "said").read_text()
    for module in ("graphtool.cli._merge", "graphtool.training.trainable"):
        import_module(module)


def _build_merged(root: Path) -> None:
    """Merge the two models once, for calls that write what came of it."""
    import numpy as np

    import graphtool as gt
    from graphtool.training.trainable import open_model

    _build_models(root)
    teacher, student = (
        open_model(str(root / "run" / "one" / model), role=role)
        for model, role in zip(_MODELS, ("teacher", "student"), strict=True)
    )
    save, export = gt.save_merged, gt.export_student
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    merged = gt.merge(teacher.live, student.live, {"image": "x"}, **scopes)

    def export_student(path: str, which: str) -> None:
        if which == "1":
            tensor = student.scope.find_var("linear_0.b_0").get_tensor()
            tensor.set(np.full(tensor.shape(), 7, "float32"), tensor._place())
        export(merged, path, force=True)

    _calls.update(
        save_merged=lambda path: save(merged, path, force=True), export_student=export_student
    )


def _build_trained(_: Path) -> None:
    """Train for a step, to save checkpoints of it."""
    import paddle

    from tests.training.resuming import CASES, training

    paddle.enable_static()
    made: Any = training(CASES["adam, steps"])
    made.train(range(1))
    _calls["save_checkpoint"] = lambda path, step: made.save_checkpoint(Path(path), int(step))


def _pairs(*options: str) -> tuple[str, ...]:
    return ("suggest-pairs", CNN, CNN, *options)


def _drawn(ending: str) -> Command:
    argv = ("render", CNN, "-o", f"net.{ending}")
    return Command(argv, (*argv, "--level=stage"))


def _merged(*options: str) -> tuple[str, ...]:
    return ("merge", *_MODELS, *options)


def _called(name: str, path: str, load: Callable[[Path], None]) -> Command:
    return Command((name, path, "2"), (name, path, "1"), load)


_RENDER = "--render=net.svg"
_EARLIER = _merged("-o", "out", "--prefix=t_")

COMMANDS: Mapping[str, Command] = {
    "suggest-pairs -o, new": Command(_pairs("-o", "p.toml")),
    "suggest-pairs --force": Command(
        _pairs("-o", "p.toml", "--force"), _pairs("--limit=1", "-o", "p.toml")
    ),
    "suggest-pairs --render": Command(_pairs(_RENDER), _pairs("--limit=1", _RENDER)),
    **{f"render .{ending}": _drawn(ending) for ending in ("dot", "svg", "png", "pdf", "html")},
    "check --render": Command(("check", CNN, CNN, _RENDER), ("render", CNN, "-o", "net.svg")),
    "merge -o, new": Command(_merged("-o", "out"), None, _build_models),
    "merge -o, in new folders": Command(_merged("-o", "a/b/out"), None, _build_models),
    "merge --force": Command(_merged("-o", "out", "--force", _RENDER), _EARLIER, _build_models),
    "save_merged": Command(("save_merged", "out"), _EARLIER, _build_merged),
    "export_student": _called("export_student", "net", _build_merged),
    "save_checkpoint": _called("save_checkpoint", "step", _build_trained),
}
