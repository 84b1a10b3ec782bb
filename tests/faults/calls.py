"""What commands and calls of the library need before a child runs them: modules and Programs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = [
    "CALLS",
    "CNN",
    "MODELS",
    "build_merged",
    "build_trained",
    "load_commands",
    "load_paddle",
    "save_models",
]

# Calls that a process has built all for, by the name that stands for a command's.
CALLS: dict[str, Callable[..., int]] = {}

CNN = str(Path(__file__).parent.parent / "fixtures" / "3.3.1" / "cnn.json")
# As seen from the folder in which a command runs.
MODELS = ("../../models/teacher/inference.json", "../../models/student/inference.json")


def load_commands(_: Path) -> None:
    """Import what commands import, once for all children."""
    for module in ("_running", "_suggest", "_check", "_render", "_inspect"):
        import_module(f"graphtool.cli.{module}")
    import_module("graphtool.rendering.picture")
    CALLS.update(write_recipe=_write_recipe)


def _write_recipe(path: str, which: str) -> int:
    import graphtool as gt

    gt.write_recipe(gt.suggest_pairs(CNN, CNN, limit=int(which)), path)
    return 0


def load_paddle(root: Path) -> None:
    """Import Paddle as well."""
    load_commands(root)
    import_module("graphtool.cli._merge")
    import_module("paddle")


def save_models(root: Path) -> int:
    """Save the two models; for a child, since Paddle's executor does not outlive a fork."""
    from tests.cli.test_merge import exported

    exported(root / "models" / "teacher", 8)
    exported(root / "models" / "student", 4, "x")
    return 0


def build_merged(root: Path) -> None:
    """Merge the two models once, for calls that write what came of it."""
    import graphtool as gt
    from graphtool.training.models import open_model

    teacher, student = (
        open_model(str(root / "run" / "one" / model), role=role)
        for model, role in zip(MODELS, ("teacher", "student"), strict=True)
    )
    save, export = gt.save_merged, gt.export_student
    scopes = {"scope": student.scope, "teacher_scope": teacher.scope}
    merged = gt.merge(teacher.live, student.live, {"image": "x"}, **scopes)

    def save_merged(path: str) -> int:
        save(merged, path, force=True)
        return 0

    def export_student(path: str, which: str) -> int:
        if which == "1":
            _blank(student.scope, "linear_0.b_0")
        export(merged, path, force=True)
        return 0

    CALLS.update(save_merged=save_merged, export_student=export_student)


def _blank(scope: Any, name: str) -> None:
    import numpy as np

    tensor = scope.find_var(name).get_tensor()
    tensor.set(np.full(tensor.shape(), 7, "float32"), tensor._place())


def build_trained(_: Path) -> None:
    """Train for a step, to save checkpoints of it."""
    import paddle

    from tests.training.resuming import CASES, training

    paddle.enable_static()
    made = training(CASES["adam, steps"])
    made.run(range(1))

    def save_checkpoint(path: str, step: str) -> int:
        made.save(Path(path), int(step))
        return 0

    CALLS.update(save_checkpoint=save_checkpoint)
