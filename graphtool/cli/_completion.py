"""`graphtool completion`: the script by which a shell completes a command line."""

from __future__ import annotations

import sys
from argparse import Action, Namespace
from collections.abc import Iterable

import shtab

from graphtool.cli._arguments import parsers, summary
from graphtool.cli._console import write_json
from graphtool.cli._explain import all_docs
from graphtool.matching.configs import CONFIGS

__all__ = ["run"]

_COMPLETED = {
    **dict.fromkeys(("FILE", "MODEL", "SOURCE", "STUDENT", "TEACHER"), shtab.FILE),
    **dict.fromkeys(("DIR", "FOLDER"), shtab.DIRECTORY),
}


def run(args: Namespace) -> int:
    """Print the script for one shell."""
    parser, commands = parsers()
    for name, command in commands.items():
        command.description = summary(name)
        # argparse has no public list of them.
        _complete(command._actions)  # noqa: SLF001
    script = shtab.complete(parser, args.shell)
    if args.format == "json":
        write_json({"schema": 1, "shell": args.shell, "script": script})
    else:
        sys.stdout.write(f"{script.rstrip()}\n")
    return 0


def _complete(actions: Iterable[Action]) -> None:
    """Say to shtab which arguments are files, and choices that argparse does not know."""
    for action in actions:
        if action.metavar in _COMPLETED:
            # Where shtab looks for it.
            vars(action)["complete"] = _COMPLETED[action.metavar]
        if action.metavar == "CODE":
            action.choices = sorted(all_docs())
        if action.dest == "config":
            action.choices = CONFIGS
