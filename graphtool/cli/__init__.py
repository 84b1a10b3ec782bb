"""The command line: parse, make one library call, print."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# The status of a shell for SIGINT.
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 errors found, 2 wrong usage.

    After a signal, the status is that of a shell: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    Output files are then unchanged or complete.
    """
    try:
        # Imported here, where an interrupt is handled: it takes longer than most runs.
        from graphtool.cli._running import open_closed_streams, run, signals_raised

        open_closed_streams()
        if argv is not None:
            return run(argv)
        with signals_raised():
            return run(sys.argv[1:])
    except KeyboardInterrupt as interrupt:
        if argv is None:
            from graphtool.cli._running import stop_writing

            # Half a table is worse than none.
            stop_writing()
        return interrupt.args[0] if interrupt.args else _INTERRUPTED
