"""`suggest-pairs --evidence`: weigh the pairs by data, with a progress bar, until interrupted."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from graphtool.cli._console import Column, errors
from graphtool.matching import Pair, PairSet
from graphtool.matching.evidence import BATCHES, Evidence, gather
from graphtool.matching.weighing import names_of, weigh

__all__ = ["Weighed", "cka_column", "pair_data", "weighed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Pairs with what data say about them; `interrupted` says that not all batches were run."""

    pairs: PairSet
    evidence: Evidence
    interrupted: bool


def weighed(pairs: PairSet, args: Namespace) -> Weighed:
    """Measure what the arguments name, and weigh the pairs by that.

    An interrupt ends the measuring: what the batches before it show is used. Before the end of the
    first one it is raised.
    """
    latest: list[Evidence] = []
    try:
        with _bar(args.batches or BATCHES) as advance:
            found = _gathered(pairs, args, latest, advance)
    except KeyboardInterrupt:
        if not latest:
            raise
        found = latest[-1]
        return Weighed(pairs=weigh(pairs, found), evidence=found, interrupted=True)
    return Weighed(pairs=weigh(pairs, found), evidence=found, interrupted=False)


def _gathered(
    pairs: PairSet, args: Namespace, latest: list[Evidence], advance: Callable[[int], None]
) -> Evidence:
    def watch(found: Evidence) -> None:
        latest[:] = [found]
        advance(found.batches)

    inputs = args.teacher_input or args.input or (), args.student_input or args.input or ()
    return gather(
        args.teacher,
        args.student,
        names_of(pairs),
        args.evidence,
        batches=args.batches or BATCHES,
        batch_size=args.batch_size,
        allow_random=args.allow_random,
        inputs=inputs,
        watch=watch,
    )


@contextmanager
def _bar(batches: int) -> Generator[Callable[[int], None]]:
    """Show on a terminal how many batches were run; what is yielded is told their number."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=errors(), transient=True) as bar:
        task = bar.add_task("running both networks", total=batches)
        yield lambda done: bar.update(task, completed=done)


def cka_column(pairs: PairSet, evidence: Evidence) -> Column:
    """Return a column of the pairs' CKA; `-` where there is none."""
    scores = (evidence.scores.get((pair.teacher.name, pair.student.name)) for pair in pairs)
    cells = ["-" if score is None else str(score).replace(" (", "\n(") for score in scores]
    return Column(title="CKA", cells=cells, justify="right", order=1)


def pair_data(pair: Pair, evidence: Evidence) -> dict[str, Any]:
    """Return a pair as JSON has it, with its CKA: null where there is none."""
    score = evidence.score(pair.teacher.name, pair.student.name)
    return {**asdict(pair), "cka": None if score is None else round(score, 4)}
