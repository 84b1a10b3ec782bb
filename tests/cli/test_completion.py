"""`graphtool completion`: each shell loads the script and completes with it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

COMMANDS = [
    "inspect",
    "suggest-pairs",
    "check",
    "merge",
    "render",
    "doctor",
    "completion",
    "explain",
]
TYPED = {
    "graphtool sug": ["suggest-pairs"],
    "graphtool ": COMMANDS,
    "graphtool inspect --sh": ["--shape"],
    "graphtool suggest-pairs --tap before": ["before-activation", "before-norm"],
    "graphtool suggest-pairs --as paddle": ["paddleclas", "paddleocr"],
    "graphtool completion ": ["bash", "zsh", "fish"],
    "graphtool suggest-pairs tea": ["teacher.json"],
    "graphtool suggest-pairs a.json b.json -o tea": ["teacher.json"],
    "graphtool merge -o mer": ["merged"],
    "graphtool explain GT00": ["GT001", "GT004", "GT005"],
}


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files to complete."""
    for name in ("teacher.json", "other.json", "merge-notes"):
        (tmp_path / name).touch()
    (tmp_path / "merged").mkdir()
    return tmp_path


def answers(shell: list[str], script: str, folder: Path) -> str:
    env = {**os.environ, "HOME": str(folder)}
    piped = {"cwd": folder, "env": env, "capture_output": True, "text": True, "check": False}
    done = subprocess.run(shell, input=script, **piped)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


BASH = """
for line in "${lines[@]}"; do
    read -ra COMP_WORDS <<< "$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _shtab_graphtool graphtool "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[*]}"
done
"""


@needs("bash")
def test_bash_completes(run: Run, folder: Path) -> None:
    script = run("completion", "bash").out
    lines = " ".join(f"'{line}'" for line in TYPED)
    shown = answers(["bash", "--norc"], f"{script}\nlines=({lines})\n{BASH}", folder).splitlines()

    assert dict(zip(TYPED, map(str.split, shown), strict=True)) == TYPED
    assert "complete -o bashdefault -F _shtab_graphtool graphtool" in script


@pytest.mark.slow
@needs("fish")
def test_fish_completes(run: Run, folder: Path) -> None:
    script = run("completion", "fish").out
    asked = "".join(f"echo == ; complete -C '{line}'\n" for line in TYPED)
    shown = answers(["fish", "--no-config"], f"{script}\n{asked}", folder)
    found = [
        [line.partition("\t")[0].rstrip("/") for line in answer.splitlines() if line]
        for answer in shown.split("==")[1:]
    ]

    for (line, wanted), given in zip(TYPED.items(), found, strict=True):
        assert set(wanted) <= set(given), line
        assert not {"other.json", "merge-notes"} & set(given), line


@pytest.mark.slow
@needs("zsh")
def test_zsh_completes(run: Run, folder: Path) -> None:
    (folder / "_graphtool").write_text(run("completion", "zsh").out)
    typed = {
        "graphtool sug\t": "graphtool suggest-pairs ",
        "graphtool inspect --sh\t": "graphtool inspect --shape ",
        "graphtool suggest-pairs --match \t": "graphtool suggest-pairs --match shape ",
        "graphtool suggest-pairs tea\t": "graphtool suggest-pairs teacher.json ",
        "graphtool merge -o mer\t": "graphtool merge -o merged/",
        "graphtool explain GT60\t\t": "GT600  GT601",
    }
    shown = typed_into_zsh(typed, folder)

    assert [
        wanted for wanted, text in zip(typed.values(), shown, strict=True) if wanted in text
    ] == [*typed.values()]


def typed_into_zsh(typed: Mapping[str, str], folder: Path) -> list[str]:
    """Return what a zsh on a pseudo-terminal shows after each line, until what is wanted."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "HOME": str(folder)}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
    ready = "PS1='re''ady>'; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D\n"
    os.write(terminal, ready.encode())
    read_until(terminal, "ready>")
    shown: list[str] = []
    for line, wanted in typed.items():
        os.write(terminal, line.encode())
        shown.append(read_until(terminal, wanted))
        # The line is taken back, and the next one typed when the shell is done with that.
        os.write(terminal, b"\x15print 'ca''lm'\n")
        read_until(terminal, "calm")
    os.write(terminal, b"exit\n")
    os.waitpid(child, 0)
    os.close(terminal)
    return shown


def read_until(terminal: int, wanted: str) -> str:
    """Read until a text comes, or until nothing comes for 20 s."""
    shown = ""
    while wanted not in shown and select.select([terminal], [], [], 20)[0]:
        shown += re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\x08", "", os.read(terminal, 65536).decode())
    return shown


def test_the_script_is_in_json_as_well(run: Run) -> None:
    data = run("completion", "fish", "--format", "json").json

    assert (data["schema"], data["shell"]) == (1, "fish")
    assert data["script"].startswith("# AUTOMATICALLY GENERATED")
