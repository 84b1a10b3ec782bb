"""A command, what is there before and after it, and what a signal in between has left."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from graphtool.staging import finish_exchanges, tidy
from tests.faults.children import run_child
from tests.faults.commands import Command
from tests.faults.folders import Contents, are_old_or_new, contents, is_part, strays

__all__ = ["Bench", "Outcome", "bench"]

# What may come of a signal, the good things first.
DONE, OLD, NEW, ONE = "done before", "old", "new", "one of two"
MENDED, BAD = "next run mends", "BAD"


@dataclass(frozen=True)
class Outcome:
    """What a signal left: one of the words above, and what is wrong where that is BAD."""

    word: str
    why: str = ""


@dataclass(frozen=True)
class Bench:
    """A command with the folder that it starts from; `status` is that of a run without a fault."""

    command: Command
    root: Path
    prepared: Path
    before: Contents
    after: Contents
    status: int
    seconds: float

    @contextmanager
    def folder(self) -> Generator[Path]:
        """Give a fresh copy of the folder to start from."""
        folder = _new_folder(self.root)
        try:
            shutil.copytree(self.prepared, folder, dirs_exist_ok=True)
            yield folder
        finally:
            shutil.rmtree(folder)

    def judge(self, folder: Path, status: int, sent: int, said: str) -> Outcome:
        """Tell what a signal has left in a folder, or what readers and a next run make of it."""
        left = contents(folder)
        # Paddle reports a crash where a process has no handler for it.
        is_killed = sent == signal.SIGKILL or (sent == signal.SIGTERM and self.command.is_call)
        if ("Traceback" in said or "Exception ignored" in said) and not is_killed:
            return Outcome(BAD, said)
        if status not in (self.status, 128 + sent):
            return Outcome(BAD, f"exit status {status}: {said}")
        is_whole = are_old_or_new(left, self.before, self.after)
        if is_killed and (strays(folder) or not is_whole):
            return self._mended(folder, left, is_whole=is_whole)
        if strays(folder) or not is_whole:
            return Outcome(BAD, f"left {strays(folder)}, {_difference(left, self)}")
        if left == self.after:
            return Outcome(DONE if status == self.status else NEW)
        return Outcome(OLD if left == self.before else ONE)

    def _mended(self, folder: Path, left: Contents, *, is_whole: bool) -> Outcome:
        if not (is_whole or is_part(left, self.before) or is_part(left, self.after)):
            return Outcome(BAD, _difference(left, self))
        # What a reader does, then what a writer does first: each leaves the old or the new.
        for step in (finish_exchanges, tidy):
            for place in {(folder / stray).parent for stray in strays(folder)}:
                step(place)
            found = contents(folder)
            if not are_old_or_new(found, self.before, self.after):
                return Outcome(BAD, f"{step.__name__}: {_difference(found, self)}")
        if strays(folder):
            return Outcome(BAD, f"not tidied: {strays(folder)}")
        said = self.root / "mended"
        status = run_child(lambda: self.command.work(folder), said)
        if contents(folder) == self.after and not strays(folder):
            return Outcome(MENDED)
        return Outcome(BAD, f"next run: {status} {strays(folder)} {said.read_text()}")


def _difference(left: Contents, bench: Bench) -> str:
    names = sorted(left.keys() | bench.before.keys() | bench.after.keys())
    changed = [
        name
        for name in names
        if left.get(name) not in (bench.before.get(name), bench.after.get(name))
    ]
    return f"holds {sorted(left)}; neither old nor new: {changed}"


def bench(command: Command, root: Path) -> Bench:
    """Run a command without a fault."""
    prepared, done = _new_folder(root), _new_folder(root)
    command.prepare(prepared)
    before = contents(prepared)
    shutil.copytree(prepared, done, dirs_exist_ok=True)
    started, said = perf_counter(), root / "said"
    status = run_child(lambda: command.work(done), said)
    seconds = perf_counter() - started
    after = contents(done)
    assert before != after, said.read_text()
    return Bench(command, root, prepared, before, after, status, seconds)


def _new_folder(root: Path) -> Path:
    """Make a folder two levels below the root, from where models are found."""
    (root / "run").mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=root / "run"))
