"""`graphtool doctor`: what is installed here, what is missing, and whether it works."""

from __future__ import annotations

import platform
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from graphtool.cli._console import TITLE, Column, print_table, progress, results, write_json
from graphtool.diagnostics import GraphtoolError, counted, listed
from graphtool.selftest import PaddleFacts, ask_paddle, compare_files
from graphtool.text import escaped_bounded, shell_command
from graphtool.version import REINSTALL
from graphtool.version import version as own_version

__all__ = ["NEWEST", "OLDEST", "run"]

# The releases of Paddle that the tests run on: the oldest, and the newest minor one.
OLDEST, NEWEST = (2, 6, 2), (3, 3)
# What Paddle's nightly builds, and those of its sources, call themselves.
_UNRELEASED = (0, 0, 0)

_OK, _MISSING, _WRONG = "ok", "missing", "wrong"
_DISTRIBUTION = "paddle-graphtool"
_BUILDS = "paddlepaddle", "paddlepaddle-gpu"
_GET_PADDLE = "pip install paddlepaddle, or paddlepaddle-gpu as its site says"
_DOT, _SECONDS = "digraph { teacher -> student }", 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What was found of one thing; `help` says what to type where it is missing or wrong."""

    name: str
    state: str = _OK
    found: str
    help: str | None = None


def run(args: Namespace) -> int:
    """Look at everything that graphtool uses; the status is 1 where something is wrong."""
    started = time.perf_counter()
    has_paddle = find_spec("paddle") is not None
    with progress("trying Paddle"):
        facts = ask_paddle() if has_paddle else None
    findings = [*_places(), *_libraries(), _paddle(facts), _engine(), _examples()]
    findings.append(_self_test(facts, started))
    healthy = all(finding.state != _WRONG for finding in findings)
    if args.format == "json":
        paddle = None if facts is None else asdict(facts)
        found = list(map(asdict, findings))
        write_json({"schema": 1, "healthy": healthy, "findings": found, "paddle": paddle})
    else:
        _print(findings)
    return 0 if healthy else 1


def _places() -> Iterator[_Finding]:
    home = Path(__file__).parents[1]
    yield _Finding(name="graphtool", found=f"{own_version()} in {escaped_bounded(str(home))}")
    python = f"{platform.python_version()}, {escaped_bounded(sys.executable)}"
    yield _Finding(name="Python", found=python)


def _libraries() -> Iterator[_Finding]:
    versions = {name: _version_of(name) for name in _required()}
    missing = [name for name, found in versions.items() if found is None]
    shown = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    if shown:
        yield _Finding(name="libraries", found=shown)
    if missing:
        needs = shell_command("pip", "install", *missing)
        yield _Finding(name="libraries", state=_WRONG, found=_absent(missing), help=needs)


def _required() -> list[str]:
    """Return what the distribution needs on every Python, by its own metadata."""
    try:
        wanted = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        wanted = []
    return [re.split(r"[^\w.-]", text)[0] for text in wanted if ";" not in text]


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _absent(names: Sequence[str]) -> str:
    return f"not installed: {listed(names, quote='')}"


def _paddle(facts: PaddleFacts | None) -> _Finding:
    if facts is None:
        still = "not installed: saved models are read, paired, checked and drawn without it"
        return _Finding(name="Paddle", state=_MISSING, found=still, help=_GET_PADDLE)
    builds = [name for name in _BUILDS if _version_of(name) is not None]
    if len(builds) > 1:
        twice = f"{builds[0]} and {builds[1]} are both installed, one over the other"
        mend = f"{shell_command('pip', 'uninstall', *builds)}, then install one of them"
        return _Finding(name="Paddle", state=_WRONG, found=twice, help=mend)
    if facts.version is None:
        at = "" if facts.path is None else f" from {escaped_bounded(facts.path)}"
        failure = f"does not import{at}: {escaped_bounded(facts.failure or 'nothing was said')}"
        return _Finding(name="Paddle", state=_WRONG, found=failure, help=_GET_PADDLE)
    return _release(facts, facts.version)


def _release(facts: PaddleFacts, release: str) -> _Finding:
    build = "" if facts.cuda is None else f", {f'CUDA {facts.cuda}' if facts.cuda else 'CPU'} build"
    devices = f", devices {listed(facts.devices, quote='')}" if facts.devices else ""
    number = tuple(map(int, re.findall(r"\d+", release)[:3]))
    if number == _UNRELEASED:
        built = f"{release}{build}{devices}: built from sources, which say no release"
        return _Finding(name="Paddle", found=built)
    if number < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        old = f"{release}{build}{devices}: too old, {oldest} is the oldest that is supported"
        return _Finding(name="Paddle", state=_WRONG, found=old, help=_GET_PADDLE)
    newest = ".".join(map(str, NEWEST))
    tried = "supported" if number[:2] <= NEWEST else f"newer than {newest}, which was tried last"
    return _Finding(name="Paddle", found=f"{release}{build}{devices}: {tried}")


def _engine() -> _Finding:
    from graphtool.rendering.engine import LayoutTimeoutError, find_engine
    from graphtool.rendering.problems import GET_ENGINE

    engine = find_engine()
    if engine is None:
        still = "not installed: pictures as .html and .dot need none, .svg and .png do"
        return _Finding(name="Graphviz", state=_MISSING, found=still, help=GET_ENGINE)
    try:
        engine.draw(_DOT, "svg", _SECONDS)
    except (GraphtoolError, LayoutTimeoutError) as error:
        said = error.report if isinstance(error, GraphtoolError) else ()
        failure = next((found.message for found in said), f"nothing within {_SECONDS:g} s")
        failed = f"{escaped_bounded(engine.path)} draws nothing: {failure}"
        return _Finding(name="Graphviz", state=_WRONG, found=failed, help=GET_ENGINE)
    pdf = "" if engine.name == "dot" else "; no .pdf, for which the system's Graphviz is needed"
    return _Finding(name="Graphviz", found=f"{escaped_bounded(engine.path)}{pdf}")


def _examples() -> _Finding:
    wanted = {name: _version_of(name) for name in ("matplotlib", "scikit-learn")}
    missing = [name for name, found in wanted.items() if found is None]
    if missing:
        absent = f"{_absent(missing)}; nothing but scripts of the examples needs them"
        needs = shell_command("pip", "install", *missing)
        return _Finding(name="examples", state=_MISSING, found=absent, help=needs)
    found = ", ".join(f"{name} {found}" for name, found in wanted.items())
    return _Finding(name="examples", found=found)


def _self_test(facts: PaddleFacts | None, started: float) -> _Finding:
    try:
        done = f"{counted(compare_files(), 'pair')} in a saved model"
    except GraphtoolError as error:
        broken = next(found.message for found in error.report)
        return _Finding(name="self-test", state=_WRONG, found=broken, help=REINSTALL)
    if facts is not None and facts.version is not None:
        if facts.compared is None or facts.equal != facts.compared:
            return _Finding(name="self-test", state=_WRONG, found=_merged(facts), help=_GET_PADDLE)
        done += f"; {_merged(facts)}"
    return _Finding(name="self-test", found=f"{done}; {time.perf_counter() - started:.1f} s")


def _merged(facts: PaddleFacts) -> str:
    if facts.compared is None:
        return f"Paddle fails at a merge: {escaped_bounded(facts.failure or 'nothing was said')}"
    return f"{facts.equal} of {facts.compared} Values and weights bit-equal after a merge"


def _print(findings: Sequence[_Finding]) -> None:
    cells = [
        f"{finding.found}\n  = help: {finding.help}" if finding.help else finding.found
        for finding in findings
    ]
    columns = (
        Column(title="what", cells=[finding.name for finding in findings], style=TITLE),
        Column(title="state", cells=[finding.state for finding in findings]),
        Column(title="found", cells=cells, least=30),
    )
    print_table(results(), columns)
