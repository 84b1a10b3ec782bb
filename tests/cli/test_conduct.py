"""What holds for every command: exit statuses, streams, help, and text that comes from files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graphtool.cli import main
from tests.terminals import plain, terminal

Run = Callable[..., Any]

COMMANDS = [
    *("inspect", "suggest-pairs", "check", "merge", "render"),
    *("doctor", "completion", "explain"),
]
HOSTILE = "[red]\x1b[31mevil\x07[/red]\nerror[GT999] forged:\u202e\x9b2J"
SHOWN = r"[red]\x1b[31mevil\x07[/red]\nerror[GT999] forged:\u202e\x9b2J"


def shell(
    *argv: str | Path, script: str | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own, or a script that imports it."""
    start = ["-m", "graphtool"] if script is None else ["-c", script]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False}
    return subprocess.run([sys.executable, *start, *map(str, argv)], **piped | options)


def doctored(cnn: Path, folder: Path, name: str = HOSTILE) -> Path:
    """Write the network with its feed and one parameter under a hostile name."""
    document = json.loads(cnn.read_text())
    for op in document["program"]["regions"][0]["blocks"][0]["ops"]:
        if op["#"] == "p" and op["A"][3] == "conv2d_0.w_0":
            op["A"][3] = name
        for attribute in op["A"] if op["#"] == "1.data" else ():
            if attribute["N"] == "name":
                attribute["AT"]["D"] = f"feed{name}"
    path = folder / "hostile.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_by_40_rows_and_shows_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])

    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "examples:" in lines
    assert any(line.startswith("  graphtool ") for line in lines)


@pytest.mark.parametrize("command", ["inspect", "suggest-pairs", "check", "merge", "render"])
def test_help_says_what_a_model_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])

    text = " ".join(capsys.readouterr().out.split())
    parts = (".json", ".pdmodel", "__model__", "folder", "module:callable", "never executed")
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(
    "argv", ["inspect CNN", "suggest-pairs CNN CNN", "render CNN -o -", "explain GT001"]
)
@pytest.mark.slow
def test_json_is_short_for_format_json(run: Run, cnn: Path, argv: str) -> None:
    words = argv.replace("CNN", str(cnn)).split()

    assert run(*words, "--json").json == run(*words, "--format", "json").json


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out == "graphtool 0.1.0\n"


def test_hostile_names_are_written_out_and_never_sent_to_the_terminal(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    model = doctored(cnn, tmp_path)
    shown, as_json = run("inspect", model, "--all"), run("inspect", model, "--format", "json")
    refused = run("suggest-pairs", model, model, "--for", f"feed{HOSTILE}x")

    assert (shown.status, refused.status) == (0, 1)
    assert shown.row("feeds") == f"feeds          feed{SHOWN}  [?, 3, 16, 16] float32"
    assert shown.out.count(SHOWN) == 3
    assert not set("\x1b\x07\u202e\x9b") & set(shown.out + as_json.out + refused.err)
    # None forges a diagnostic.
    assert [line[:5] for line in refused.err.splitlines() if line[:1] != " "] == ["error"]
    assert as_json.out.isascii()
    assert as_json.json["feeds"][0]["name"] == f"feed{HOSTILE}"


def test_a_name_of_100_kilobytes_is_cut_in_the_middle(run: Run, cnn: Path, tmp_path: Path) -> None:
    result = run("inspect", doctored(cnn, tmp_path, "n" * 100_000))

    assert result.status == 0
    assert re.search(r"n … 99004 more, [0-9a-f]{8} … nnnn", result.row("feeds"))
    assert max(map(len, result.lines)) < 2000


@pytest.mark.slow
def test_piped_output_has_no_escapes_no_cuts_and_no_trailing_blanks(cnn: Path) -> None:
    done = shell("suggest-pairs", cnn, cnn, env={**os.environ, "COLUMNS": "40"})
    text = done.stdout.decode()

    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert "…" not in text
    assert str(cnn) in text
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.slow
def test_what_a_users_module_prints_does_not_reach_stdout(folder: Path) -> None:
    (folder / "noisy.py").write_text(
        "import os, paddle\n"
        "print('while it is imported')\n"
        "def net():\n"
        "    print('while it is built')\n"
        "    os.system('echo by another process')\n"
        "    return paddle.nn.Sequential(paddle.nn.Linear(4, 3))\n"
    )
    done = shell("inspect", "noisy:net", "--input=4", "--format=json")

    assert json.loads(done.stdout)["parameters"] == 15
    for said in (b"while it is imported", b"while it is built", b"by another process"):
        assert said in done.stderr


@pytest.mark.parametrize("options", [["--all"], ["--format", "json"]])
@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_the_command_quietly(
    fixtures: Path, options: list[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = shell("inspect", fixtures / "3.3.1" / "training.json", *options, stdout=pipe)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "argv",
    [
        *("inspect CNN --all", "--help"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("inspect CNN --json", "explain")),
    ],
)
def test_a_full_disk_is_a_diagnostic(cnn: Path, argv: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = shell(*argv.replace("CNN", str(cnn)).split(), stdout=full)

    assert done.returncode == 1
    assert done.stderr == (
        b"error[GT601] unwritable-output: `stdout` cannot be written: No space left on device\n"
    )


@pytest.mark.slow
def test_what_a_narrow_encoding_lacks_is_written_by_its_number(cnn: Path) -> None:
    done = shell("inspect", cnn, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"8 \\xd7 8" in done.stdout


def test_a_command_runs_in_a_thread_that_may_not_handle_signals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["graphtool", "explain", "GT001"])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main).result() == 0

    assert capsys.readouterr().out.startswith("GT001 no-such-path\n")


# A process that a shell starts in the background ignores SIGINT.
MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from graphtool.cli import main
sys.exit(main())
"""
INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""
INTERRUPTED_BUILD = """
import os, signal
from paddle import nn
class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x):
        # While Paddle calls Python, it drops what is raised by a signal, or crashes.
        os.kill(os.getpid(), signal.SIGINT)
        return self.fc(x)
"""


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (INTERRUPTED, "inspect interrupted:Net --input=4"),
        (INTERRUPTED_BUILD, "merge interrupted:Net interrupted:Net --input=4 -o merged"),
    ],
)
@pytest.mark.slow
def test_an_interrupt_ends_the_command_with_130_in_the_middle_of_paddles_work_too(
    folder: Path, code: str, argv: str
) -> None:
    (folder / "interrupted.py").write_text(code)
    done = shell(*argv.split(), script=MAIN)

    assert (done.returncode, done.stdout) == (130, b"")
    assert b"Traceback" not in done.stderr
    assert {path.name for path in folder.iterdir()} <= {"interrupted.py", "__pycache__"}


INTERRUPTED_IMPORT = """
import signal, sys
from importlib.machinery import ExtensionFileLoader
make = ExtensionFileLoader.create_module
def interrupted(loader, spec):
    # While the C code of Paddle's module runs, which makes an ImportError of it.
    if spec.name.endswith("libpaddle"):
        signal.setitimer(signal.ITIMER_REAL, 0.001)
    return make(loader, spec)
ExtensionFileLoader.create_module = interrupted
signal.signal(signal.SIGALRM, signal.default_int_handler)
from graphtool.cli import main
sys.exit(main(["inspect", "paddle.vision.models:LeNet", "--input", "1,28,28"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no alarm signals")
@pytest.mark.slow
def test_an_interrupt_while_paddle_is_imported_is_one() -> None:
    done = shell(script=INTERRUPTED_IMPORT)

    assert done.returncode == 130
    assert b"GT030" not in done.stderr


@pytest.mark.slow
def test_help_and_comparing_files_import_neither_paddle_nor_numpy_nor_networkx(cnn: Path) -> None:
    heavy = {"paddle", "numpy", "networkx"}

    assert imported_by(["--help"], ["inspect", "--help"], ["explain"]) & heavy == set()
    argv = ["suggest-pairs", str(cnn), str(cnn), "--json"]
    assert imported_by(argv) & {*heavy, "rich"} == set()


def imported_by(*commands: list[str]) -> set[str]:
    """Return the modules that command lines have imported by their end."""
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr))\n"
        "from graphtool.cli import main\n"
        f"for argv in {commands!r}:\n"
        "    try: main(argv)\n"
        "    except SystemExit as done: assert not done.code\n"
    )
    done = shell(script=script)
    assert done.returncode == 0
    return set(done.stderr.decode().splitlines()[-1].split())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
class TestOnATerminal:
    """What a person sees."""

    @pytest.mark.parametrize(
        "command",
        [
            "suggest-pairs CNN CNN",
            *(pytest.param(x, marks=pytest.mark.slow) for x in ("inspect CNN --name *", "--help")),
        ],
    )
    def test_tables_fit_and_colours_are_those_that_light_and_dark_grounds_show(
        self, cnn: Path, command: str
    ) -> None:
        text = terminal(80, *command.replace("CNN", str(cnn)).split())
        codes = {part for code in re.findall(r"\x1b\[([\d;]*)m", text) for part in code.split(";")}
        lines = plain(text)

        # Reset, bold, dim, red, magenta, and the ground's own.
        assert {"1"} <= codes <= {"0", "1", "2", "31", "35", "39"}
        assert max(map(len, lines)) <= 80
        if command.startswith("inspect"):
            assert any(line.startswith("too narrow for: operator, dtype") for line in lines)
        elif command.startswith("suggest"):
            assert ["1", "logits", "add_2", "add_2", "equal"] in map(str.split, lines)

    @pytest.mark.parametrize(
        "width", [30, *(pytest.param(x, marks=pytest.mark.slow) for x in (40, 42))]
    )
    def test_a_narrow_terminal_cuts_no_column_without_a_word(self, cnn: Path, width: int) -> None:
        text = plain(terminal(width, "suggest-pairs", cnn, cnn))
        titles = next(line.split() for line in text if line.startswith("#"))
        named = " ".join(re.findall("too narrow for: (.*?);", " ".join(text)))

        assert "relation" in named
        for title in {"kind", "teacher", "student"} - set(titles):
            assert title in named
        assert any("Residual" in line for line in text)
        stages = " ".join(plain(terminal(width, "inspect", cnn)))
        assert re.search("too narrow for: [^;]*last +output", stages)

    @pytest.mark.slow
    def test_no_color_is_honoured_and_a_path_is_folded_between_its_parts(self, cnn: Path) -> None:
        assert "35m" in terminal(100, "inspect", "--help")
        assert "35m" not in terminal(100, "inspect", "--help", NO_COLOR="1")
        lines = plain(terminal(60, "suggest-pairs", cnn, cnn))
        assert {"/Cnn/", "Residual/"} <= {word for line in lines for word in line.split()}
