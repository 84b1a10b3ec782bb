"""`suggest-pairs --evidence`: run both networks, with a progress bar, until interrupted."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from graphtool.cli._console import errors
from graphtool.cli._source import aside
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report
from graphtool.matching import PairSet
from graphtool.matching.evidence import BATCHES, Evidence, check_samples, gather
from graphtool.matching.weighing import names_of

__all__ = ["Measured", "check_evidence", "measured"]

# What to type, where a rule's help is an argument of a call.
_SAMPLES = "--evidence samples.npz"
_HELPS = {"GT370": _SAMPLES, "GT383": _SAMPLES}
_ALLOWED, _ALLOW = "allow_random=True)", "--allow-random"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What data say: None where nobody asked, or an interrupt came before the first batch's end."""

    evidence: Evidence | None = None
    interrupted: bool = False


def check_evidence(source: str | None) -> None:
    """Refuse what names no samples before work is put into what is to be weighed.

    Raises GraphtoolError as `check_samples` does, with helps for the command line.
    """
    with _helps_for_the_command_line():
        check_samples(source)


@contextmanager
def _helps_for_the_command_line() -> Generator[None]:
    try:
        yield
    except GraphtoolError as error:
        raise type(error)(*_typed(error.report)) from None


def measured(pairs: PairSet, args: Namespace) -> Measured:
    """Run both networks on what `--evidence` names.

    An interrupt ends the measuring: what the batches before it show is kept, and said on stderr.

    Raises GraphtoolError as `gather` does, with helps for the command line.
    """
    if args.evidence is None:
        return Measured()
    found, interrupted, wanted = None, False, args.batches or BATCHES
    try:
        with _helps_for_the_command_line(), _bar(wanted) as advance, aside():
            for found in _gathered(pairs, args, wanted):
                advance(found.batches)
    except KeyboardInterrupt:
        interrupted, done = True, 0 if found is None else found.batches
        errors().print(f"interrupted after {done} of {wanted} batches at most", soft_wrap=True)
    if found is not None:
        found = replace(found, report=_typed(found.report))
    return Measured(evidence=found, interrupted=interrupted)


def _gathered(pairs: PairSet, args: Namespace, wanted: int) -> Iterator[Evidence]:
    return gather(
        args.teacher,
        args.student,
        names_of(pairs),
        args.evidence,
        batches=wanted,
        allow_random=args.allow_random,
        inputs=(args.teacher_input or args.input or (), args.student_input or args.input or ()),
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


def _typed(report: Report) -> Report:
    return Report.of(replace(found, help=_help(found)) for found in report)


def _help(found: Diagnostic) -> str | None:
    if found.help is not None and found.help.endswith(_ALLOWED):
        return _ALLOW
    return _HELPS.get(found.code, found.help)
