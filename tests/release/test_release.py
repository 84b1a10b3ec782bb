"""`.ci/release` refuses for each thing that is not in step, and builds where all is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "1.2.0"
requires-python = ">=3.10"
dependencies = ["Alpha_Beta>=2"]

[project.optional-dependencies]
dev = ["small[more]"]
more = ["gamma"]

[tool.hatch.build.targets.wheel]
packages = ["graphtool"]
exclude = ["graphtool/left_out.py"]
"""
_CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n\n- All.\n\n## [1.1.0]\n"
_LOOKS = """\
from pathlib import Path

def test_it():
    assert Path("written.md").read_text() == "as it is\\n"
"""


_SEES_THE_WHEEL = """\
from importlib.metadata import version
from importlib.util import find_spec

def test_it():
    assert find_spec("graphtool") is not None
    assert find_spec("graphtool.left_out") is None
    assert version("small") == "1.2.0"
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    path = str(_ROOT / ".ci" / "release")
    spec = spec_from_loader("release", SourceFileLoader("release", path))
    assert spec is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # The script has no ending: its bytecode would lie beside it.
        patch.setattr(sys, "dont_write_bytecode", True)
        assert spec.loader is not None
        spec.loader.exec_module(module)
    return module


class Checkout:
    """A small project in a repository of its own, with everything in step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = {
            "pyproject.toml": _PYPROJECT,
            "CHANGELOG.md": _CHANGELOG,
            ".ci/requirements.txt": "alpha-beta==2.1 \\\n    --hash=sha256:0\ngamma==1 ; x\n",
            ".ci/paddle26.in": "gamma<2\n",
            ".ci/paddle26.txt": "gamma==1.9\n",
            ".ci/models.in": "delta==3\n",
            ".ci/models.txt": "delta==3\n",
            ".ci/toolkits.in": "delta==3\n",
            ".ci/toolkits.txt": "delta==3\n",
            ".gitignore": "dist/\n__pycache__/\n.pytest_cache/\n",
            "graphtool/__init__.py": "",
            "written.md": "as it is\n",
            "tests/__init__.py": "",
            "tests/guides/test_it.py": _LOOKS,
        }
        for name, text in files.items():
            self.write(name, text)
        self.git("init", "--quiet")
        self.commit()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new, 1))
        self.commit()

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


LOCKED = ".ci/requirements.txt"
GIVES = "CHANGELOG.md gives [1.2.0] no date: ## [1.2.0] - YYYY-MM-DD"
SAYS = "pyproject.toml says 1.3.0, CHANGELOG.md's newest version is 1.2.0"
HAS = "CHANGELOG.md has entries under [Unreleased]: put them under [1.2.0]"
AGAIN = "is wanted: lock it again"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", "1.2.0", "1.3.0", SAYS),
        ("CHANGELOG.md", "## [1.2", "- More.\n\n## [1.2", HAS),
        ("CHANGELOG.md", " - 2026-01-31", "", GIVES),
        ("pyproject.toml", '"gamma"', '"gamma", "eps>=1"', f"{LOCKED} lacks eps: lock it again"),
        (
            "pyproject.toml",
            "a>=2",
            "a>=3",
            f"{LOCKED} has Alpha_Beta 2.1, and Alpha_Beta>=3 {AGAIN}",
        ),
        (".ci/paddle26.in", "<2", "<1", f".ci/paddle26.txt has gamma 1.9, and gamma<1 {AGAIN}"),
        (".ci/models.txt", "delta==3", "", ".ci/models.txt lacks delta: lock it again"),
    ],
)
def test_what_is_not_in_step_is_refused(
    release: Any,
    checkout: Checkout,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    said: str,
) -> None:
    checkout.replace(file, old, new)

    assert release.main(checkout.root) == 1
    assert capsys.readouterr().err == f"not in step: {said}\n"
    assert not (checkout.root / "dist").exists()


def test_all_that_can_be_seen_is_said_at_once(release: Any, checkout: Checkout) -> None:
    assert list(release.refusals(checkout.root)) == []
    checkout.git("tag", "v1.2.0")
    checkout.write("CHANGELOG.md", "# Changelog\n")

    assert list(release.refusals(checkout.root)) == [
        "CHANGELOG.md and 0 more are not committed",
        "there is a tag v1.2.0: choose another version in pyproject.toml",
        "pyproject.toml says 1.2.0, CHANGELOG.md's newest version is nothing",
    ]


@pytest.mark.slow
def test_what_a_command_would_write_otherwise_is_refused(
    release: Any, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "WRITTEN", ("tests.guides",))
    release.look(checkout.root)
    checkout.replace("written.md", "as it is", "another")

    told = (
        r"^`.* -m pytest -q -m '' tests/guides` finds it out of step: python -m tests\.guides, then"
    )
    with pytest.raises(release.RefusedError, match=told):
        release.look(checkout.root)


def test_a_command_that_fails_is_refused(
    release: Any, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "LINTED", (("python", "-c", "exit(3)"),))
    with pytest.raises(release.RefusedError, match=r"^`python -c 'exit\(3\)'` finds something$"):
        release.lint(checkout.root)


def test_every_part_that_it_names_is_there(release: Any) -> None:
    modules = (_ROOT.joinpath(*module.split("."), "__main__.py") for module in release.WRITTEN)
    assert [path for path in modules if not path.exists()] == []
    assert all((_ROOT / ".ci" / part).exists() for lock in release.LOCKS for part in lock if part)


def test_it_lints_as_ci_does(release: Any) -> None:
    run = (_ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in run if re.match(r"\.venv/bin/(?!python)", line)] == [
        f".venv/bin/{' '.join(command)}" for command in release.LINTED
    ]


@pytest.mark.slow
def test_the_wheel_that_is_built_is_the_one_that_is_tested(
    release: Any, checkout: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(release.uv()) is None:
        pytest.skip("uv builds: it comes with the extra `dev`")
    checkout.write(".ci/requirements.txt", "pytest\n")
    checkout.write(".ci/models.txt", "")
    checkout.write("graphtool/left_out.py", "")
    checkout.write("tests/test_it.py", _SEES_THE_WHEEL)
    checkout.commit()
    try:
        wheel, sdist = release.build(checkout.root)
    except release.RefusedError:
        if "error sending request" in (said := capfd.readouterr().err) or "dns" in said:
            pytest.skip("neither uv's cache nor the network has hatchling")
        raise
    release.test(checkout.root, wheel)

    said = release.farewell("1.2.0", wheel, sdist)
    assert (wheel.name, sdist.name) == ("small-1.2.0-py3-none-any.whl", "small-1.2.0.tar.gz")
    assert f"{release.digest(wheel)}  dist/{wheel.name}\n" in said
    assert said.endswith(f"uv publish dist/{sdist.name} dist/{wheel.name}")

    checkout.replace("tests/test_it.py", "1.2.0", "1.2.1")
    with pytest.raises(
        release.RefusedError, match=r"-m pytest -q -m ''` fails on the wheel that was built$"
    ):
        release.test(checkout.root, wheel)
