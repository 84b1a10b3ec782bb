"""`suggest-pairs --evidence`: run both networks on samples, with a progress bar."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager

from graphtool.cli._console import errors
from graphtool.cli._source import stdout_to_stderr
from graphtool.evidence.suggest import BATCHES, Evidence, names_to_measure
from graphtool.matching import PairSet

__all__ = ["measure"]


def measure(pairs: PairSet, args: Namespace) -> tuple[Evidence | None, bool]:
    """Run both networks on the samples of `--evidence`; return what was measured, if anything.

    An interrupt stops it, with a line on stderr, and makes the second result True; the evidence is
    that of the finished batches.

    Raises GraphtoolError as `gather` does.
    """
    if args.evidence is None:
        return None, False
    from graphtool.evidence.cka import gather

    evidence, interrupted, batches = None, False, args.batches or BATCHES
    try:
        with _progress_bar(batches) as advance, stdout_to_stderr():
            for evidence in gather(
                args.teacher,
                args.student,
                names_to_measure(pairs),
                args.evidence,
                batches=batches,
                allow_random=args.allow_random,
                inputs=(
                    args.teacher_input or args.input or (),
                    args.student_input or args.input or (),
                ),
            ):
                advance(evidence.batches)
    except KeyboardInterrupt:
        interrupted, done = True, 0 if evidence is None else evidence.batches
        errors().print(f"interrupted after {done} of {batches} batches at most", soft_wrap=True)
    return evidence, interrupted


@contextmanager
def _progress_bar(batches: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yields a function that sets the number of batches run."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=errors(), transient=True) as bar:
        task = bar.add_task("running both networks", total=batches)
        yield lambda done: bar.update(task, completed=done)
