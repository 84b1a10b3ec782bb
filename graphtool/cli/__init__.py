"""The command line: parse, make one library call, print."""

from __future__ import annotations

import sys

from graphtool.cli._early import leave_on_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 errors found, 2 wrong usage.

    After a signal, the status is that of a shell: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    Output files are then unchanged or complete.
    """
    if argv is None:
        leave_on_signals()
    from graphtool.cli._signals import INTERRUPTED, interruptible
    from graphtool.cli._streams import open_closed_streams, stop_writing

    open_closed_streams()
    statuses: list[int] = []
    try:
        with interruptible(statuses, for_good=argv is None):
            # Imported here, where interrupts are handled: it takes longer than most runs.
            from graphtool.cli._running import run

            return run(sys.argv[1:] if argv is None else list(argv), statuses)
    except BaseException as error:
        if not statuses and not isinstance(error, KeyboardInterrupt):
            raise
        if argv is None:
            # Half a table is worse than none.
            stop_writing()
        return statuses[0] if statuses else INTERRUPTED
