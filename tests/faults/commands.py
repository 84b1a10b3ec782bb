"""Every command and call that writes: its command line, and what it writes over."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from graphtool.cli import main
from graphtool.diagnostics import GraphtoolError
from tests.faults import calls
from tests.faults.calls import CNN
from tests.faults.children import run_child

__all__ = ["CNN", "GROUPS", "Command"]

_OTHERS = "notes.txt"


@dataclass(frozen=True)
class Command:
    """A command line, run in a folder of its own; `over` wrote what is there before."""

    name: str
    argv: tuple[str, ...]
    over: tuple[str, ...] | None = None

    def prepare(self, folder: Path) -> None:
        """Make what is there before: others' files, and what an earlier run wrote."""
        (folder / _OTHERS).write_text("others")
        if self.over is not None:
            # In a child, too: what Paddle's executor starts does not outlive a fork.
            run_child(lambda: _run(self.over or (), folder), Path(os.devnull))

    @property
    def is_call(self) -> bool:
        """Tell a call of the library, where only an interrupt is an exception."""
        return self.argv[0] in calls.CALLS

    def work(self, folder: Path) -> int:
        """Run the command in a folder, for a child that ends with it."""
        return _run(self.argv, folder)


def _run(argv: tuple[str, ...], folder: Path) -> int:
    os.chdir(folder)
    if argv[0] not in calls.CALLS:
        sys.argv = ["graphtool", *argv]
        return main()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return calls.CALLS[argv[0]](*argv[1:])
    # Paddle makes a failure of its own of an interrupt that finds it at work.
    except (KeyboardInterrupt, GraphtoolError):
        return 128 + signal.SIGINT


def _pairs(*options: str) -> tuple[str, ...]:
    return ("suggest-pairs", CNN, CNN, *options)


def _drawn(ending: str) -> Command:
    argv = ("render", CNN, "-o", f"net.{ending}")
    return Command(f"render .{ending}", argv, (*argv, "--level=stage"))


def _merged(*options: str) -> tuple[str, ...]:
    return ("merge", *calls.MODELS, *options)


def _called(name: str, path: str) -> Command:
    return Command(name, (name, path, "2"), (name, path, "1"))


_RENDER = "--render=net.svg"
_ONE = "--limit=1"
_EARLIER = _merged("-o", "out", "--prefix=t_")

# Commands by what their process does before it forks.
GROUPS: Mapping[Callable[[Path], None], tuple[Command, ...]] = {
    calls.load_commands: (
        Command("suggest-pairs -o, new", _pairs("-o", "p.toml")),
        Command(
            "suggest-pairs --force",
            _pairs("-o", "p.toml", "--force"),
            _pairs(_ONE, "-o", "p.toml"),
        ),
        Command("suggest-pairs --render", _pairs(_RENDER), _pairs(_ONE, _RENDER)),
        *map(_drawn, ("dot", "svg", "png", "pdf", "html")),
        Command("check --render", ("check", CNN, CNN, _RENDER), ("render", CNN, "-o", "net.svg")),
        _called("write_recipe", "p.toml"),
    ),
    calls.load_paddle: (
        Command("merge -o, new", _merged("-o", "out")),
        Command("merge -o, in new folders", _merged("-o", "a/b/out")),
        Command("merge --force", _merged("-o", "out", "--force"), _EARLIER),
        Command("merge --force --render", _merged("-o", "out", "--force", _RENDER), _EARLIER),
    ),
    calls.build_merged: (
        Command("save_merged", ("save_merged", "out"), _EARLIER),
        _called("export_student", "net"),
    ),
    calls.build_trained: (_called("save_checkpoint", "step"),),
}
