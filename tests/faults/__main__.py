"""Send signals to every command that writes, at random moments and at each touch of a file.

`python -m tests.faults --rounds 300` prints what came of how many; it ends with 1 where any is BAD.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.benches import BAD, DONE, MENDED, NEW, OLD, ONE, Bench, Outcome, bench
from tests.faults.calls import save_models
from tests.faults.children import ended, run_child, start
from tests.faults.commands import GROUPS, Command
from tests.faults.steps import signals_at

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WORDS = (OLD, NEW, ONE, DONE, MENDED, BAD)
# The most touches of files that a command may have.
MANY = 1000

Counts = Counter[tuple[str, str, str]]
Load = Callable[[Path], None]


def at_random(made: Bench, sent: int, rounds: int) -> Iterator[Outcome]:
    """Send the signal at moments of the whole run."""
    for _ in range(rounds):
        with made.folder() as folder:
            said = made.root / "said"
            child = start(lambda folder=folder: made.command.work(folder), said)
            time.sleep(random.uniform(0, made.seconds))
            os.kill(child, sent)
            yield made.judge(folder, ended(child), sent, said.read_text())


def at_each_touch(made: Bench, sent: int) -> Iterator[Outcome]:
    """Send the signal before each touch of a file, until the run has no more."""
    for number in range(MANY):
        with made.folder() as folder:
            said = made.root / "said"

            def work(folder: Path = folder, number: int = number) -> int:
                signals_at(number, sent)
                return made.command.work(folder)

            status = run_child(work, said)
            found = made.judge(folder, status, sent, said.read_text())
            if found.word == DONE:
                return
            yield found


def count(command: Command, root: Path, args: Namespace, counts: Counts, console: Console) -> None:
    """Send all signals to a command."""
    made = bench(command, root)
    sendable = [sent for sent in SIGNALS if args.signal is None or sent.name in args.signal]
    for sent in sendable:
        rounds = args.rounds // len(sendable)
        for outcomes in (at_random(made, sent, rounds), at_each_touch(made, sent)):
            for outcome in outcomes:
                counts[command.name, sent.name, outcome.word] += 1
                if outcome.word == BAD:
                    console.print(f"[red]{command.name}, {sent.name}[/]", outcome.why, markup=True)


def count_group(load: Load, root: Path, args: Namespace, console: Console) -> Counts:
    """Go through a group's commands in a process of its own, which has loaded what they need."""
    found = root / "counts"
    child = os.fork()
    if child == 0:
        try:
            load(root)
            # What the parent of a child holds is not the child's to take down.
            gc.freeze()
            counts: Counts = Counter()
            for command in GROUPS[load]:
                if args.only in command.name:
                    console.print(f"{command.name} …", style="dim")
                    count(command, root, args, counts, console)
            found.write_bytes(pickle.dumps(counts))
        except BaseException:  # noqa: BLE001  # The child must not go on as its parent.
            console.print_exception()
        os._exit(0)
    ended(child)
    return pickle.loads(found.read_bytes())


def table(counts: Counts) -> Table:
    """Return how often what came of which signal."""
    drawn = Table("command", "signal", *WORDS)
    for name, sent in dict.fromkeys(key[:2] for key in counts):
        drawn.add_row(name, sent, *(str(counts[name, sent, word] or "") for word in WORDS))
    totals = (str(sum(n for key, n in counts.items() if key[2] == word)) for word in WORDS)
    drawn.add_section()
    drawn.add_row("all", "", *totals)
    return drawn


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="random moments for each command")
    parser.add_argument("--only", default="", help="commands that have this in their name")
    parser.add_argument("--signal", action="append", choices=[sent.name for sent in SIGNALS])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console = Console()
    counts: Counts = Counter()
    random.seed(args.seed)
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="faults"))
    try:
        (root / "run" / "one").mkdir(parents=True)
        run_child(lambda: save_models(root), root / "said")
        for load, commands in GROUPS.items():
            if any(args.only in command.name for command in commands):
                counts += count_group(load, root, args, console)
    finally:
        shutil.rmtree(root)
    console.print(table(counts))
    return 1 if any(key[2] == BAD for key in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
