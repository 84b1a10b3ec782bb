"""`graphtool doctor` and `graphtool completion`: what is installed, and a shell's script."""

from __future__ import annotations

import platform
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from graphtool.cli._arguments import parsers
from graphtool.cli._console import TITLE, Column, print_table, results, write_json
from graphtool.cli._explain import all_docs
from graphtool.rendering.engine import GET_ENGINE, find_engine
from graphtool.text import escaped_bounded, shell_command
from graphtool.toolkits import CONFIGS
from graphtool.version import DISTRIBUTION
from graphtool.version import version as own_version

__all__ = ["run_completion", "run_doctor"]

_PADDLE_BUILDS = "paddlepaddle", "paddlepaddle-gpu"
_GET_PADDLE = "pip install paddlepaddle, or paddlepaddle-gpu as its site says"


def run_doctor(args: Namespace) -> int:
    """Print what is installed; the exit status is 1 if a required library is missing."""
    required = _required()
    facts = [(name, escaped_bounded(found), fix) for name, found, fix in _facts(required)]
    if args.format == "json":
        rows = [{"name": name, "found": found, "help": fix} for name, found, fix in facts]
        write_json({"schema": 2, "facts": rows})
    else:
        rows = [(name, f"{found}\n  = help: {fix}" if fix else found) for name, found, fix in facts]
        print_table(results(), (Column("what", TITLE), Column("found", least=30)), rows)
    return int(any(name in required and fix for name, _, fix in facts))


def _facts(required: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Yield the name of each fact, what was found, and what to type if it is missing."""
    yield "graphtool", f"{own_version()} in {Path(__file__).parents[1]}", None
    yield "Python", f"{platform.python_version()} on {platform.platform()}, {sys.executable}", None
    for name in required:
        found = _version_of(name)
        yield name, found or "not installed", None if found else f"pip install {name}"
    builds = [f"{name} {found}" for name in _PADDLE_BUILDS if (found := _version_of(name))]
    if len(builds) > 1:
        fix = f"{shell_command('pip', 'uninstall', *_PADDLE_BUILDS)}, then install one of them"
        yield "Paddle", f"{' and '.join(builds)}, one over the other", fix
    else:
        without = "not installed: saved models are read, paired, checked and drawn without it"
        yield "Paddle", builds[0] if builds else without, None if builds else _GET_PADDLE
    engine = find_engine()
    yield "Graphviz", engine.path if engine else "not installed", None if engine else GET_ENGINE


def _required() -> list[str]:
    """Return what graphtool requires on every Python, by its own metadata."""
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", text)[0] for text in requirements if ";" not in text]


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def run_completion(args: Namespace) -> int:
    """Print the completion script of one shell."""
    import shtab

    files = dict.fromkeys(("FILE", "MODEL", "SOURCE", "STUDENT", "TEACHER"), shtab.FILE)
    completed = {**files, "DIR": shtab.DIRECTORY}
    choices = {"CODE": sorted(all_docs()), "TOOLKIT": CONFIGS}
    parser, commands = parsers(brief=True)
    for command in commands.values():
        # argparse has no public list of actions.
        for action in command._actions:  # noqa: SLF001
            if action.metavar in completed:
                # The attribute that shtab reads.
                vars(action)["complete"] = completed[action.metavar]
            action.choices = choices.get(str(action.metavar), action.choices)
    script = shtab.complete(parser, args.shell)
    if args.format == "json":
        write_json({"schema": 1, "shell": args.shell, "script": script})
    else:
        sys.stdout.write(f"{script.rstrip()}\n")
    return 0
