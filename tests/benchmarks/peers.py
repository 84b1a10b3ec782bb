"""Set up PaddleSlim 2.6.0 on Paddle 2.6.2 in an environment of its own.

It lists neither `six`, `requests`, `pyzmq` nor `decorator`, which it imports, nor that it wants a
`pip` and a setuptools that still has `pkg_resources`; `peer.txt` locks all of them, and what
graphtool needs to merge beside it. Paddle 2.6.2 has wheels for Python 3.8 to 3.12.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["SetupError", "paddleslim"]

_LOCK = Path(__file__).with_name("peer.txt")
_PYTHONS = "python3.12", "python3.11", "python3.10"
_USES = "import zlib, paddle; paddle.enable_static(); from paddleslim.dist import merge"


class SetupError(Exception):
    """An environment can't be had; the message is what the last command said."""


def paddleslim(folder: Path) -> str:
    """Return a Python that has PaddleSlim, from an environment that is made if it is not there.

    Raises SetupError.
    """
    python, done = str(folder / "bin" / "python"), folder / "installed.txt"
    if done.is_file() and done.read_text() == _LOCK.read_text():
        return python
    base = sys.executable if sys.version_info < (3, 13) else None
    base = base or next(filter(None, map(shutil.which, _PYTHONS)), None)
    if base is None:
        raise SetupError("Paddle 2.6.2 needs Python 3.10 to 3.12, and none is on the path")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        (base, "-m", "venv", str(folder)),
        (python, "-m", "pip", "install", "--quiet", "--requirement", str(_LOCK)),
        (python, "-c", _USES),
    ):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SetupError(str(error)) from error
        if ran.returncode:
            said = (ran.stderr or ran.stdout).strip().splitlines()
            raise SetupError(f"{command[0]}: {said[-1] if said else ran.returncode}")
    shutil.copyfile(_LOCK, done)
    return python
