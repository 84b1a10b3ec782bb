"""Processes of their own for networks: none of them may hang, or take more than it is given."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS, GIGABYTES = 30, 4
# For what is not graphtool's own work: to construct a network, to run it.
_ELSE_SECONDS, _ELSE_GIGABYTES = 200, 12
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), resource.getpagesize()

Facts = dict[str, Any]
Work = Callable[[Callable[..., None]], None]


@dataclass(slots=True)
class _Running:
    name: str
    process: int
    pipe: int
    facts: Facts = field(default_factory=lambda: {"ways": {}})
    stage: str = "to_static"
    limits: bool = False
    since: float = 0.0
    before: float = 0.0
    rest: bytes = b""

    def hear(self) -> bool:
        """Take what the process tells; False once it has told all."""
        heard = os.read(self.pipe, 65536)
        *lines, self.rest = (self.rest + heard).split(b"\n")
        for line in lines:
            self._note(json.loads(line))
        return bool(heard)

    def _note(self, told: Facts) -> None:
        if "stage" in told:
            self.stage, self.limits = told["stage"], told["limits"]
            self.since, self.before = self._usage()
        elif "way" in told:
            self.facts["ways"].setdefault(told.pop("way"), {}).update(told)
        else:
            self.facts.update(told)

    def over(self) -> str | None:
        """Return what the process takes too much of in this stage, None while it does not."""
        seconds, gigabytes = self._usage()
        seconds, gigabytes = seconds - self.since, gigabytes - self.before
        if self.limits:
            most = self.facts["ways"].setdefault(self.stage, {})
            most["gigabytes"] = round(max(most.get("gigabytes", 0), gigabytes), 2)
        limits = (SECONDS, GIGABYTES) if self.limits else (_ELSE_SECONDS, _ELSE_GIGABYTES)
        if seconds > limits[0]:
            return f"OVER {limits[0]} s"
        return f"OVER {limits[1]} GB" if gigabytes > limits[1] else None

    def _usage(self) -> tuple[float, float]:
        """Return the seconds of processors so far, and the gigabytes held now."""
        folder = Path("/proc", str(self.process))
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pages = int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return self.since, self.before
        return (int(fields[11]) + int(fields[12])) / _TICKS, pages * _PAGE / 1e9

    def end(self, verdict: str, why: str = "") -> None:
        """Say what became of the stage that it is in."""
        if self.stage == "to_static":
            self.facts["to_static"] = f"{verdict} {why}".strip()
        else:
            self.facts["ways"].setdefault(self.stage, {}).update(verdict=verdict, why=why)


def run(works: Mapping[str, Work], logs: Path, *, jobs: int) -> Iterator[tuple[str, Facts]]:
    """Do each work in a child of this process, `jobs` at a time; yield what they told, by name."""
    logs.mkdir(parents=True, exist_ok=True)
    waiting, selector = list(works), selectors.DefaultSelector()
    running: dict[int, _Running] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            child = _start(name, works[name], logs / f"{name}.log")
            running[child.pipe] = child
            selector.register(child.pipe, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select(0.1)}
        for child in list(running.values()):
            told_all = child.pipe in ready and not child.hear()
            verdict = None if told_all else child.over()
            if verdict is not None:
                os.kill(child.process, signal.SIGKILL)
                child.end(verdict)
            if not (told_all or verdict):
                continue
            _, status = os.waitpid(child.process, 0)
            if verdict is None and os.WIFSIGNALED(status):
                child.end("CRASH", signal.Signals(os.WTERMSIG(status)).name)
            selector.unregister(child.pipe)
            os.close(child.pipe)
            del running[child.pipe]
            yield child.name, child.facts


def _start(name: str, work: Work, log: Path) -> _Running:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        os.close(writing)
        return _Running(name, process, reading)
    os.close(reading)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    stage = "to_static"

    def tell(**facts: Any) -> None:
        nonlocal stage
        stage = facts.get("stage", stage)
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
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""
