"""Send a command a signal at each touch of a file: `python -m tests.faults [COMMAND [SIGNAL]]`.

It prints what came of how many, and ends with 1 where any is BAD.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path

from tests.faults.children import ended, run_child
from tests.faults.commands import COMMANDS, Command
from tests.faults.folders import Contents, are_old_or_new, contents, make_old, strays
from tests.faults.steps import signals_at

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def signalled(command: Command, sent: signal.Signals, root: Path) -> Counter[str]:
    """Count what a signal at each touch has left: the old, the new, a leftover, or BAD."""
    prepared, done, said = new_folder(root), new_folder(root), root / "said"
    command.prepare(prepared)
    before = contents(prepared)
    shutil.copytree(prepared, done, dirs_exist_ok=True)
    usual = run_child(lambda: command.work(done), said)
    after = contents(done)
    assert before != after, said.read_text()
    # Paddle reports a crash where a process has no handler for it.
    is_killed = sent == signal.SIGKILL or (sent == signal.SIGTERM and command.is_call)
    counts: Counter[str] = Counter()
    for number in count():
        folder = new_folder(root)
        shutil.copytree(prepared, folder, dirs_exist_ok=True)

        def work(folder: Path = folder, number: int = number) -> int:
            signals_at(number, sent)
            return command.work(folder)

        status = run_child(work, said)
        left, text = contents(folder), said.read_text()
        found = "new" if left == after else "old" if left == before else "one of two"
        if status == usual and left == after and not strays(folder):
            return counts
        if not are_old_or_new(left, before, after):
            found = f"BAD: holds {sorted(left)}"
        elif status not in (usual, 128 + sent):
            found = f"BAD: exit status {status}, {text}"
        elif not is_killed and ("Traceback" in text or "Exception ignored" in text):
            found = f"BAD: {text}"
        elif command.argv[0] == "save_merged" and run_child(partial(load, folder), said) != 0:
            found = f"BAD: {said.read_text()}"
        elif strays(folder):
            found = f"BAD: left {strays(folder)}"
            if is_killed:
                found = rerun(command, folder, after, said)
        counts[found] += 1
        shutil.rmtree(folder)
    return counts


def rerun(command: Command, folder: Path, after: Contents, said: Path) -> str:
    """Run a command that was killed once more: it removes what the first run left long ago."""
    make_old(folder)
    if contents(folder) == after and command.over is None:
        # A second run refuses to write over the first.
        shutil.rmtree(folder / command.argv[-1].partition("/")[0])
    run_child(partial(command.work, folder), said)
    if contents(folder) == after and not strays(folder):
        return "leftover"
    return f"BAD: the next run leaves {strays(folder)}: {said.read_text()}"


def load(folder: Path) -> int:
    """Load what is there: readers have nothing to repair."""
    import graphtool as gt

    return 1 if gt.load_merged(folder / "out").report.errors else 0


def new_folder(root: Path) -> Path:
    """Make a folder two levels below the root, from where models are found."""
    return Path(tempfile.mkdtemp(dir=root / "run"))


def main(arguments: list[str]) -> int:
    names = arguments[:1] or list(COMMANDS)
    signals = [signal.Signals[name] for name in arguments[1:]] or SIGNALS
    memory, bad = Path("/dev/shm"), 0
    for name in names:
        root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="faults"))
        try:
            (root / "run" / "one").mkdir(parents=True)
            child = os.fork()
            if child == 0:
                COMMANDS[name].load(root)
                # What the parent of a child holds is not the child's to take down.
                gc.freeze()
                for sent in signals:
                    counts = signalled(COMMANDS[name], sent, root)
                    print(name, sent.name, dict(counts), sum(counts.values()), flush=True)
                    bad += any(found.startswith("BAD") for found in counts)
                os._exit(bad)
            bad += ended(child)
        finally:
            shutil.rmtree(root)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
