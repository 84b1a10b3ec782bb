"""`graphtool demo`: from two networks to a distilled student, in a folder of its own."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from runpy import run_path
from shutil import which

from graphtool.backend.paddle import load_paddle
from graphtool.cli._console import progress, results, write_json
from graphtool.cli._source import stdout_to_stderr
from graphtool.diagnostics import UsageError, counted, listed
from graphtool.files import exists_already, os_errors_reported
from graphtool.paths import numbered_path
from graphtool.text import path_argument, printable, shell_command

__all__ = ["run"]

_SCRIPT = "demo.py"


def run(args: Namespace) -> int:
    """Copy the script of the demonstration to a folder, and run it there."""
    started = time.perf_counter()
    folder = Path(args.folder)
    script = folder / _SCRIPT
    with os_errors_reported(folder):
        entries = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if entries:
        again = shell_command(_python(), path_argument(f"{args.folder}/{_SCRIPT}"))
        message = f"`{args.folder}` is not empty: it holds {listed(entries, 8)}"
        other = shell_command("graphtool", "demo", path_argument(numbered_path(args.folder)))
        raise UsageError(exists_already(message, again if _SCRIPT in entries else other))
    with progress("importing Paddle"):
        load_paddle()
    with os_errors_reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        script.write_bytes(files("graphtool").joinpath(_SCRIPT).read_bytes())
    with _kept_directory(), stdout_to_stderr() if args.format == "json" else nullcontext():
        run_path(str(script), run_name="__main__")
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if args.format == "json":
        write_json({"schema": 1, "folder": args.folder, "written": written})
    else:
        _say_what_is_next(args.folder, len(written), time.perf_counter() - started)
    return 0


@contextmanager
def _kept_directory() -> Generator[None]:
    """Go back to the working directory, which the script leaves for its own folder."""
    home = Path.cwd()
    try:
        yield
    finally:
        os.chdir(home)


def _python() -> str:
    """Return what to type for the Python that has graphtool: a tool's own is not on the path."""
    found = which("python")
    is_ours = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if is_ours else sys.executable


def _say_what_is_next(folder: str, count: int, seconds: float) -> None:
    where = path_argument(folder)
    console = results()
    console.print(
        f"\n{counted(count, 'file')} in {printable(folder)}, after {seconds:.0f} s. Next:"
    )
    for typed in (
        shell_command("cd", where),
        "graphtool render merged -o merged.html",
        shell_command(_python(), _SCRIPT),
    ):
        console.print(f"  $ {typed}", soft_wrap=True)
