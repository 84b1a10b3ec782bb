"""Set up PaddleSlim 2.6.0 on Paddle 2.6.2 in an environment of its own.

It lists neither `six`, `requests`, `pyzmq` nor `decorator`, which it imports, nor that it wants a
`pip` and a setuptools that still has `pkg_resources`; `peer.txt` locks all of them, and what
graphtool needs to merge beside it. Paddle 2.6.2 has wheels for Python 3.8 to 3.12.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SetupError", "paddleslim"]

_LOCK = Path(__file__).with_name("peer.txt")
_PYTHONS = (3, 12), (3, 11), (3, 10)
_USES = "import zlib, paddle; paddle.enable_static(); from paddleslim.dist import merge"


class SetupError(Exception):
    """An environment can't be had; the message is what the last command said."""


def paddleslim(folder: Path) -> str:
    """Return a Python that has PaddleSlim, from an environment that is made if it is not there.

    Raises SetupError.
    """
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.is_file() and done.read_text() == _LOCK.read_text():
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    for command in _with_uv(folder) if shutil.which("uv") else _with_pip(folder):
        _run(command)
    _run((str(python), "-c", _USES))
    shutil.copyfile(_LOCK, done)
    return str(python)


def _with_uv(folder: Path) -> Sequence[Sequence[str]]:
    python = str(folder / "bin" / "python")
    version = sys.executable if sys.version_info[:2] in _PYTHONS else _spelt(_PYTHONS[0])
    return (
        ("uv", "venv", "--quiet", "--python", version, str(folder)),
        ("uv", "pip", "install", "--quiet", "--python", python, "--requirement", str(_LOCK)),
    )


def _with_pip(folder: Path) -> Sequence[Sequence[str]]:
    pip = str(folder / "bin" / "pip")
    return (
        (_fitting_python(), "-m", "venv", str(folder)),
        (pip, "install", "--quiet", "--requirement", str(_LOCK)),
    )


def _fitting_python() -> str:
    if sys.version_info[:2] in _PYTHONS:
        return sys.executable
    found = (shutil.which(f"python{_spelt(version)}") for version in _PYTHONS)
    python = next(filter(None, found), None)
    if python is None:
        raise SetupError("Paddle 2.6.2 needs Python 3.10 to 3.12, and none is on the path")
    return python


def _spelt(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SetupError(f"{command[0]}: {said[-1] if said else done.returncode}")
