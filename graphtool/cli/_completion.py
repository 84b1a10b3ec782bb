"""`graphtool completion`: print a shell's completion script."""

from __future__ import annotations

import sys
from argparse import Namespace

import shtab

from graphtool.cli._arguments import parsers
from graphtool.cli._console import write_json
from graphtool.cli._explain import all_docs
from graphtool.toolkits import CONFIGS

__all__ = ["run"]

_COMPLETIONS = {
    **dict.fromkeys(("FILE", "MODEL", "SOURCE", "STUDENT", "TEACHER"), shtab.FILE),
    "DIR": shtab.DIRECTORY,
}


def run(args: Namespace) -> int:
    """Print the completion script of one shell."""
    parser, commands = parsers(brief=True)
    for command in commands.values():
        # argparse has no public list of actions.
        for action in command._actions:  # noqa: SLF001
            if action.metavar in _COMPLETIONS:
                # The attribute that shtab reads.
                vars(action)["complete"] = _COMPLETIONS[action.metavar]
            if action.metavar == "CODE":
                action.choices = sorted(all_docs())
            if action.dest == "config":
                action.choices = CONFIGS
    script = shtab.complete(parser, args.shell)
    if args.format == "json":
        write_json({"schema": 1, "shell": args.shell, "script": script})
    else:
        sys.stdout.write(f"{script.rstrip()}\n")
    return 0
