"""Processes of their own for networks: none of them may compute for ever, or take all memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NoReturn

SECONDS, GIGABYTES = 30, 4
# For what is not graphtool's own work: to construct a network, to run it.
_ELSE_SECONDS, _ELSE_GIGABYTES = 200, 12

Facts = dict[str, Any]
Work = Callable[[Callable[..., None]], None]


def run(works: Mapping[str, Work], logs: Path, *, jobs: int) -> Iterator[tuple[str, Facts]]:
    """Do each work in a child of this process, `jobs` at a time; yield what is found, by name."""
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = list(works), dict[Future[Facts], str]()
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                reading, writing = os.pipe()
                # Here, and not in a thread: Paddle has a mode for each.
                child = os.fork()
                if not child:
                    _work(works[name], logs / f"{name}.log", writing)
                os.close(writing)
                running[pool.submit(_hear, child, reading)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _hear(child: int, reading: int) -> Facts:
    """Return what a child says until it ends, and what became of it."""
    facts: Facts = {"ways": {}}
    stage = "to_static"
    with os.fdopen(reading) as lines:
        for line in lines:
            said = json.loads(line)
            if "stage" in said:
                stage = said["stage"]
            elif "way" in said:
                facts["ways"].setdefault(said.pop("way"), {}).update(said)
            else:
                facts.update(said)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        verdict = "OVER TIME" if name == "SIGXCPU" else f"CRASH {name}"
        if stage == "to_static":
            facts["to_static"] = verdict
        else:
            facts["ways"].setdefault(stage, {}).update(verdict=verdict)
    return facts


def _work(work: Work, log: Path, writing: int) -> NoReturn:
    """Be the child: each stage has bounds on processor time and on memory."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    stage = "to_static"

    def tell(**facts: Any) -> None:
        nonlocal stage
        if "stage" in facts:
            stage = facts["stage"]
            limits = (SECONDS, GIGABYTES) if facts["limits"] else (_ELSE_SECONDS, _ELSE_GIGABYTES)
            used = resource.getrusage(resource.RUSAGE_SELF)
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            last = int(used.ru_utime + used.ru_stime) + limits[0]
            resource.setrlimit(resource.RLIMIT_CPU, (last, resource.RLIM_INFINITY))
            most = mapped + limits[1] * 10**9
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        os.write(writing, json.dumps(facts).encode() + b"\n")

    try:
        work(tell)
    except BaseException as error:  # noqa: BLE001  # this process does nothing else
        traceback.print_exc()
        why = f"{type(error).__name__}: {last_line(error)}"
        if stage == "to_static":
            tell(to_static=why)
        else:
            tell(way=stage, verdict="TRACEBACK", why=why)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def last_line(error: BaseException) -> str:
    """Return what an error of Paddle's ends with, which says the most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""
