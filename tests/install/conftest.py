"""A wheel and an sdist that are built once, and environments that they are installed in."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FIXTURES = _ROOT / "tests" / "fixtures"
# What `uv` says where an index cannot be reached.
_NO_NETWORK = re.compile(r"dns error|error sending request|connect|network", re.IGNORECASE)
# Distributions that an environment with this Paddle is to bring itself, or to be without.
_LEFT_OUT = re.compile(r"paddle_?graphtool|graphtool|paddlepaddle[-_]|__editable__|_?paddle_graph")


@dataclass(frozen=True)
class Built:
    """What a release consists of."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Installed:
    """An environment that graphtool was installed into; commands run in a folder of their own."""

    home: Path
    folder: Path

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, far from the checkout."""
        program, *arguments = map(str, argv)
        return subprocess.run(
            [str(self.home / "bin" / program), *arguments],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def distributions(self) -> set[str]:
        """Return the names of what was installed into it."""
        listed = uv("pip", "freeze", "--python", self.home / "bin" / "python").stdout
        return {re.split(r"[ =@]", line)[0] for line in listed.splitlines()}


def _environment() -> dict[str, str]:
    """Return this environment without what leads to the checkout or to another environment."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def uv(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run uv on what its cache has, and with the network where that is not enough.

    A machine that has neither skips the test.
    """
    first, *others = map(str, argv)
    from uv import find_uv_bin

    command = [find_uv_bin(), first, *others]
    for offline in (["--offline"], []):
        done = subprocess.run(
            [*command, *offline], env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done
    if _NO_NETWORK.search(done.stderr):
        pytest.skip(f"neither uv's cache nor the network has it: {' '.join(command)}")
    raise AssertionError(done.stderr)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both as a release does: the wheel from the sdist, in environments of their own."""
    pytest.importorskip("uv", reason="uv builds and installs: it comes with the extra `dev`")
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder, _ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


Install = Callable[..., Installed]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Return what installs requirements into a new environment, which has nothing else."""
    return functools.partial(_install, tmp_path)


def _install(where: Path, *what: str | Path, paths: tuple[Path, ...] = ()) -> Installed:
    home, folder = where / "env", where / "elsewhere"
    folder.mkdir()
    uv("venv", "--python", sys.executable, home)
    python = home / "bin" / "python"
    uv("pip", "install", "--python", python, *what)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "beside.pth").write_text("".join(f"{path}\n" for path in paths))
    return Installed(home, folder)


@pytest.fixture(scope="session")
def this_paddle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the packages of this Python, but for graphtool and who brought Paddle.

    On an environment's path it stands for an installation of 200 MB.
    """
    folder = tmp_path_factory.mktemp("site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not _LEFT_OUT.match(entry.name) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def model() -> Path:
    """Return a saved model: five classes, two stages."""
    return _FIXTURES / "3.3.1" / "cnn.json"
