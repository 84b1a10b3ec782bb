"""Run one script of a guide in one process: `python -m tests.guides.interpreter GUIDE SCRIPT`.

Runs in the working directory and prints, as JSON, what each block is to show: `[line, text]`, line
being the block's. A `python` block runs in one namespace with those before it, as lines of a file
named like the guide, so that its lines in diagnostics are those of the guide; its output is what
the `text` block right behind it has, a GraphtoolError that ends it included. A `console` block
holds commands (`$ …`) with their output.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from graphtool.diagnostics import GraphtoolError
from tests.guides.markdown import Block, Guide

__all__ = ["shown_by"]


def shown_by(guide: Guide, script: int) -> list[tuple[int, str]]:
    """Return what the blocks of a script show, by the line of each."""
    names: dict[str, object] = {"__name__": "__main__"}
    source = Path(f"{guide.path.stem}.py")
    shown: list[tuple[int, str]] = []
    printed = None
    for block in guide.scripts[script]:
        if block.language == "python" and block.word is None:
            printed = _run(block, source, names)
        elif block.language == "text" and printed is not None:
            shown.append((block.line, printed))
            printed = None
        elif block.language == "console":
            shown.append((block.line, _commands(block)))
        else:
            printed = None
    return shown


def _run(block: Block, source: Path, names: dict[str, object]) -> str:
    # The file is there for `inspect`, which Paddle asks for the source of a `forward`.
    kept = source.read_text(encoding="utf-8") if source.exists() else ""
    source.write_text(kept + "\n" * (block.line - 1 - kept.count("\n")) + block.text, "utf-8")
    padded = "\n" * (block.line - 1) + block.text
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(padded, str(source), "exec"), names)
        except GraphtoolError as error:
            print(error)
    return out.getvalue()


def _commands(block: Block) -> str:
    lines: list[str] = []
    commands = [line for line in _joined(block.text) if line.startswith("$ ")]
    for command in commands:
        lines += [command, *_said(command.removeprefix("$ ")).splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _joined(text: str) -> list[str]:
    r"""Return the lines of a block, a command that goes on behind a `\` being one."""
    return text.replace("\\\n", "\\\0").replace("\n", "\1").replace("\0", "\n").split("\1")


def _said(command: str) -> str:
    """Return what a command prints, on both streams."""
    words = shlex.split(command)
    if words[0] == "graphtool" and not {"|", ">", "&&"} & set(words):
        return _graphtool(words[1:])
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    return done.stdout


def _graphtool(arguments: list[str]) -> str:
    """Run a command of graphtool here, where Paddle may be loaded already."""
    from graphtool.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(arguments)
    return out.getvalue()


def _main() -> None:
    sys.path.insert(0, str(Path.cwd()))
    out = sys.stdout
    shown = shown_by(Guide(Path(sys.argv[1])), int(sys.argv[2]))
    json.dump(shown, out)


if __name__ == "__main__":
    _main()
