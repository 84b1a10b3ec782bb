"""Run a command for the benchmark: `python -SE launcher.py ANSWER LIMIT COMMAND…`.

To the kernel a process's peak begins with the memory of the one that started it: here that is one
of some 10 MiB. The file ANSWER gets the seconds, the exit code and the peak in bytes, as JSON.
After LIMIT seconds the command is killed; with 0 it never is.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run the command and wait for its end."""
    answer, limit, *command = sys.argv[1:]
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, float(limit))
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    with open(answer, "w") as file:  # noqa: PTH123  # pathlib is a MiB more
        json.dump((seconds, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024), file)


if __name__ == "__main__":
    main()
