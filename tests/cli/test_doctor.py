"""`graphtool doctor`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle
import pytest

from graphtool import selftest
from graphtool.cli import _doctor
from graphtool.selftest import PaddleFacts
from noxfile import PADDLES

Run = Callable[..., Any]

FACTS = PaddleFacts(version="3.3.1", cuda="", devices=["cpu"], compared=14, equal=14)


@pytest.fixture
def told(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[PaddleFacts], Any]:
    """Return what doctor says where a process that imports Paddle has said something."""

    def call(facts: PaddleFacts) -> Any:
        monkeypatch.setattr(_doctor, "ask_paddle", lambda: facts)
        return run("doctor")

    return call


@pytest.mark.slow
def test_it_tries_the_paddle_that_is_there_and_says_what_came_out(run: Run) -> None:
    result = run("doctor", "--json")
    findings = {found["name"]: found for found in result.json["findings"]}

    assert (result.status, result.json["healthy"], result.err) == (0, True, "")
    assert findings["graphtool"]["found"].startswith("0.1.0 in /")
    assert f"{paddle.__version__}, CPU build, devices cpu: supported" in findings["Paddle"]["found"]
    assert "14 of 14 Values and weights bit-equal" in findings["self-test"]["found"]
    assert result.json["paddle"]["compared"] == 14


def test_the_releases_that_it_calls_supported_are_those_that_are_tested() -> None:
    releases = [tuple(map(int, release.split("."))) for release in PADDLES]

    assert releases[0] == _doctor.OLDEST
    assert releases[-1][:2] == _doctor.NEWEST


@pytest.mark.slow
def test_each_build_of_paddle_is_called_by_its_kind(told: Callable[..., Any]) -> None:
    cpu = told(FACTS)
    gpu = told(replace(FACTS, cuda="12.6", devices=["cpu", "gpu:0"]))

    assert cpu.row("Paddle").split("  ")[-1].strip() == "3.3.1, CPU build, devices cpu: supported"
    assert gpu.row("Paddle").endswith("3.3.1, CUDA 12.6 build, devices cpu, gpu:0: supported")
    assert (cpu.status, gpu.status) == (0, 0)


@pytest.mark.parametrize(
    ("version", "status", "verdict"),
    [
        ("2.5.2", 1, "too old, 2.6.2 is the oldest that is supported"),
        ("0.0.0", 0, "built from sources, which say no release"),
        ("2.6.2", 0, "supported"),
        ("3.0.0b1", 0, "supported"),
        ("3.4.0", 0, "newer than 3.3, which was tried last"),
    ],
)
def test_it_says_whether_a_release_is_supported(
    told: Callable[..., Any], version: str, status: int, verdict: str
) -> None:
    result = told(replace(FACTS, version=version))

    assert result.row("Paddle").endswith(f"devices cpu: {verdict}")
    assert result.status == status


def test_a_paddle_that_does_not_import_is_an_error_with_what_to_type(
    told: Callable[..., Any],
) -> None:
    result = told(PaddleFacts(failure="`import paddle` fails: libgomp.so.1: cannot open"))

    assert result.status == 1
    assert [
        "Paddle",
        "wrong",
        "does not import: `import paddle` fails: libgomp.so.1: cannot open",
    ] in result.cells
    assert "  = help: pip install paddlepaddle" in result.out


def test_a_merge_that_changes_a_number_or_fails_is_an_error(told: Callable[..., Any]) -> None:
    changed = told(replace(FACTS, equal=13))
    failed = told(replace(FACTS, compared=None, equal=None, failure="ended by signal 11"))

    assert (changed.status, failed.status) == (1, 1)
    assert changed.row("self-test").endswith("13 of 14 Values and weights bit-equal after a merge")
    assert failed.row("self-test").endswith("Paddle fails at a merge: ended by signal 11")


@pytest.mark.slow
def test_without_paddle_it_says_what_still_works_in_no_time(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['paddle'] = None\nfrom graphtool.cli import main\n"
    script = hidden + "import importlib.util as u; u.find_spec = lambda name: None\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}sys.exit(main(['doctor']))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "not installed: saved models are read, paired, checked and drawn without" in done.stdout
    assert "5 pairs in a saved model; " in done.stdout


def test_a_crash_of_paddle_does_not_end_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = 'import os, signal, graphtool.selftest as s; s._say(version="3.3.1")'
    monkeypatch.setattr(selftest, "_ASK", f"{crash}; os.kill(os.getpid(), signal.SIGSEGV)")

    assert selftest.ask_paddle() == PaddleFacts(
        version="3.3.1", failure="the process was ended by signal 11"
    )


def test_what_cannot_be_imported_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    without = "import sys; sys.modules['paddle'] = None; import graphtool.selftest as s"
    monkeypatch.setattr(selftest, "_ASK", f"{without}; s.report_paddle()")

    assert selftest.ask_paddle() == PaddleFacts(
        failure="`import paddle` fails: import of paddle halted; None in sys.modules"
    )


@pytest.mark.slow
def test_a_broken_paddle_on_the_path_is_named_whatever_it_prints(
    tmp_path: Path, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "paddle"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        "print('{\"version\": 1}\\n{')\nraise ImportError('half')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    facts = selftest.ask_paddle()
    shown = told(facts).out

    assert facts == PaddleFacts(path=str(broken), failure="`import paddle` fails: half")
    assert f"does not import from {broken}: `import paddle` fails: half" in " ".join(shown.split())


def test_a_folder_that_is_called_paddle_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "paddle").mkdir()
    # Nothing but graphtool and the folder is on the path.
    alone = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import graphtool.selftest as s"
    hidden = "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]"
    monkeypatch.setattr(selftest, "_ASK", f"{alone}; {hidden}; s.report_paddle()")

    assert selftest.ask_paddle() == PaddleFacts(
        failure=f"`import paddle` fails: `{tmp_path / 'paddle'}` is a folder, not a package"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the engine is a shell script here")
def test_an_engine_that_draws_nothing_is_an_error(
    told: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "dot"
    engine.write_text("#!/bin/sh\necho 'no plugins' >&2\nexit 1\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = told(FACTS)

    assert result.status == 1
    (found,) = (row for row in result.cells if row[0] == "Graphviz")
    assert found[1] == "wrong"
    assert found[2].startswith(f"{engine} draws nothing: ")


def test_a_library_that_is_missing_is_named(
    told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["graphviz>=0.20", "no-such-library>=1", "tomli>=2; python_version < '3.11'"]
    monkeypatch.setattr(_doctor, "requires", lambda _: wanted)
    result = told(FACTS)

    assert result.status == 1
    assert ["libraries", "wrong", "not installed: no-such-library"] in result.cells
    assert "  = help: pip install no-such-library\n" in result.out
