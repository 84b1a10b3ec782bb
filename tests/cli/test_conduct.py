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
from inline_snapshot import snapshot

from graphtool.cli import main
from tests.terminals import plain, terminal

Run = Callable[..., Any]

COMMANDS = [
    *("inspect", "suggest-pairs", "check", "merge", "render"),
    *("doctor", "completion", "explain"),
]
HOSTILE = "[red]\x1b[31mevil\x07[/red]\nerror[GT999] forged:\u202e\x9b2J"
SHOWN = r"[red]\x1b[31mevil\x07[/red]\nerror[GT999] forged:\u202e\x9b2J"


def shell(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "graphtool", *map(str, argv)],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


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


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_fits_80_columns_by_40_rows_and_shows_examples(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])

    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "examples:" in lines
    assert any(line.startswith("  graphtool ") for line in lines)


@pytest.mark.parametrize(
    "argv", [("inspect", "CNN"), ("render", "CNN", "-o", "-"), ("explain", "GT001")]
)
@pytest.mark.slow
def test_json_is_short_for_format_json(run: Run, cnn: Path, argv: tuple[str, ...]) -> None:
    argv = tuple(str(cnn) if word == "CNN" else word for word in argv)

    assert run(*argv, "--json").json == run(*argv, "--format", "json").json


@pytest.mark.parametrize("command", ["inspect", "suggest-pairs", "check", "merge", "render"])
def test_help_says_what_a_model_is(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])

    text = " ".join(capsys.readouterr().out.split())
    for part in (".json", ".pdmodel", "__model__", "folder", "module:callable", "never executed"):
        assert part in text


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out == "graphtool 0.1.0\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["inspekt"],
        ["inspect"],
        ["inspect", "a.json", "--limit", "0"],
        ["inspect", "a.json", "--shape", "a,b"],
        ["inspect", "a.json", "--no-such-option"],
        ["suggest-pairs", "a.json"],
        ["explain", "GT9"],
    ],
)
def test_wrong_usage_is_a_diagnostic_with_exit_status_2(run: Run, argv: list[str]) -> None:
    result = run(*argv)

    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error[GT60")
    assert "\n  = help: graphtool " in result.err


def test_a_misspelt_option_is_named(run: Run) -> None:
    assert run("inspect", "a.json", "--limt", "3").err == snapshot("""\
error[GT600] wrong-usage: unrecognized arguments: --limt 3
  = note: nearest: `--limit`
  = help: graphtool inspect --help
""")


def test_a_misspelt_command_and_a_misspelt_option_beside_another_fault_are_named(run: Run) -> None:
    command = run("sugest-pairs", "a.json", "b.json").err
    assert command.endswith(
        "  = note: nearest: `suggest-pairs`\n  = help: graphtool suggest-pairs --help\n"
    )
    option = run("merge", "a.json", "b.json", "--outptu", "x").err
    assert option.endswith("  = note: nearest: `--output`\n  = help: graphtool merge --help\n")


def test_hostile_names_are_written_out_and_never_sent_to_the_terminal(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    result = run("inspect", doctored(cnn, tmp_path), "--all")

    assert result.status == 0
    assert result.row("feeds") == f"feeds          feed{SHOWN}  [?, 3, 16, 16] float32"
    assert result.out.count(SHOWN) == 3
    assert not any(sign in result.out for sign in "\x1b\x07\u202e\x9b")


def test_hostile_names_cannot_forge_a_diagnostic(run: Run, cnn: Path, tmp_path: Path) -> None:
    model = doctored(cnn, tmp_path)
    result = run("suggest-pairs", model, model, "--for", f"feed{HOSTILE}x")

    assert result.status == 1
    assert not any(sign in result.err for sign in "\x1b\x07\u202e\x9b")
    assert [line[:5] for line in result.err.splitlines() if line[:1] != " "] == ["error"]


def test_hostile_names_are_escaped_in_json_and_come_back_whole(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    result = run("inspect", doctored(cnn, tmp_path), "--format", "json")

    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert result.json["feeds"][0]["name"] == f"feed{HOSTILE}"


def test_a_name_of_100_kilobytes_is_cut_in_the_middle(run: Run, cnn: Path, tmp_path: Path) -> None:
    result = run("inspect", doctored(cnn, tmp_path, "n" * 100_000))

    assert result.status == 0
    assert re.search(r"n … 99004 more, [0-9a-f]{8} … nnnn", result.row("feeds"))
    assert max(map(len, result.lines)) < 2000


@pytest.mark.slow
def test_piped_output_has_no_escapes_no_cuts_and_no_trailing_blanks(cnn: Path) -> None:
    done = shell("suggest-pairs", cnn, cnn, COLUMNS="40")
    text = done.stdout.decode()

    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert "…" not in text
    assert str(cnn) in text
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.slow
def test_json_is_alone_on_stdout_and_diagnostics_are_on_stderr(cnn: Path, fixtures: Path) -> None:
    done = shell("suggest-pairs", cnn, fixtures / "3.3.1" / "encoder.json", "--json")

    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr.startswith(b"warning[GT301]")


@pytest.mark.slow
def test_what_a_users_module_prints_does_not_reach_stdout(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os, paddle\n"
        "print('while it is imported')\n"
        "def net():\n"
        "    print('while it is built')\n"
        "    os.system('echo by another process')\n"
        "    return paddle.nn.Sequential(paddle.nn.Linear(4, 3))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "graphtool", "inspect", "noisy:net", "--input=4", "--format=json"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )

    assert json.loads(done.stdout)["parameters"] == 15
    assert b"while it is imported" in done.stderr
    assert b"while it is built" in done.stderr
    assert b"by another process" in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_the_command_quietly(fixtures: Path) -> None:
    model = fixtures / "3.3.1" / "training.json"
    for options in (["--all"], ["--format", "json"]):
        command = [sys.executable, "-m", "graphtool", "inspect", str(model), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "argv",
    [
        ["inspect", "--all"],
        ["--help"],
        pytest.param(["inspect", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["explain"], marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_a_diagnostic(cnn: Path, argv: list[str]) -> None:
    model = [str(cnn)] if argv[0] == "inspect" else []
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "graphtool", *argv, *model],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == (
        b"error[GT601] unwritable-output: `stdout` cannot be written: No space left on device\n"
    )


@pytest.mark.parametrize("command", [["inspect"], ["suggest-pairs", "a.json"]])
def test_an_empty_model_is_wrong_usage_and_not_the_working_directory(
    run: Run, cnn: Path, command: list[str]
) -> None:
    result = run(*(str(cnn) if part == "a.json" else part for part in command), "")

    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error[GT001] no-such-path: MODEL is empty")


def test_inputs_for_files_alone_are_wrong_usage(run: Run, cnn: Path) -> None:
    for argv in (
        ("inspect", cnn, "--input", "3,16,16"),
        ("suggest-pairs", cnn, cnn, "--input", "3,16,16"),
        ("suggest-pairs", cnn, cnn, "--teacher-input", "3,16,16"),
        ("suggest-pairs", cnn, cnn, "--student-input", "3,16,16"),
    ):
        result = run(*argv)
        assert (result.status, result.out) == (2, "")
        assert f"argument {argv[-2]}: not allowed with files" in result.err


def test_a_missing_file_is_missing_with_inputs_too(run: Run, tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "no.json", "--input", "3,16,16")

    assert (result.status, result.err[:12]) == (1, "error[GT001]")


@pytest.mark.slow
def test_what_a_narrow_encoding_lacks_is_written_by_its_number(cnn: Path) -> None:
    done = shell("inspect", cnn, PYTHONIOENCODING="ascii")

    assert done.returncode == 0
    assert b"8 \\xd7 8" in done.stdout
    assert done.stderr == b""


def test_a_command_runs_in_a_thread_that_may_not_handle_signals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["graphtool", "explain", "GT001"])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main).result() == 0

    assert capsys.readouterr().out.startswith("GT001 no-such-path\n")


@pytest.mark.slow
def test_an_interrupt_ends_the_command_with_130(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import os, signal\n"
        # A process that a shell starts in the background ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "graphtool", "inspect", "interrupted:net", "--input=4"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 130
    assert b"Traceback" not in done.stderr


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

# A process that a shell starts in the background ignores SIGINT.
MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from graphtool.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_an_interrupt_in_the_middle_of_paddles_work_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_BUILD)
    arguments = ["merge", "interrupted:Net", "interrupted:Net", "--input=4", "-o", "merged"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )

    assert (done.returncode, done.stdout) == (130, b"")
    assert b"Traceback" not in done.stderr
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in left if name != "__pycache__"] == ["interrupted.py"]


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
def test_an_interrupt_while_paddle_is_imported_is_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 130
    assert b"GT030" not in done.stderr


@pytest.mark.slow
def test_help_imports_neither_paddle_nor_numpy_nor_networkx() -> None:
    imported = imported_by(["--help"], ["inspect", "--help"], ["explain"])

    assert imported & {"paddle", "numpy", "networkx"} == set()


@pytest.mark.slow
def test_saved_models_are_compared_without_paddle_numpy_networkx_or_rich(cnn: Path) -> None:
    argv = ["suggest-pairs", str(cnn), str(cnn), "--json"]

    assert imported_by(argv) & {"paddle", "numpy", "networkx", "rich"} == set()


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
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(done.stderr.decode().splitlines()[-1].split())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
class TestOnATerminal:
    """What a person sees."""

    @pytest.mark.slow
    def test_colours_and_tables_fit_80_columns(self, cnn: Path) -> None:
        text = terminal(80, "suggest-pairs", cnn, cnn)

        assert "\x1b[1m" in text
        assert max(map(len, plain(text))) <= 80
        assert any(
            line.split() == ["1", "logits", "add_2", "add_2", "equal"] for line in plain(text)
        )

    @pytest.mark.slow
    def test_columns_that_do_not_fit_are_named(self, cnn: Path) -> None:
        text = plain(terminal(80, "inspect", cnn, "--name", "*"))

        assert max(map(len, text)) <= 80
        assert any(line.startswith("too narrow for: operator, dtype") for line in text)

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
    def test_no_color_is_honoured(self) -> None:
        assert "35m" in terminal(100, "inspect", "--help")
        assert "35m" not in terminal(100, "inspect", "--help", NO_COLOR="1")

    @pytest.mark.parametrize(
        "command",
        [
            ["suggest-pairs"],
            *(pytest.param(x, marks=pytest.mark.slow) for x in (["inspect"], ["--help"])),
        ],
    )
    def test_colours_are_those_that_light_and_dark_grounds_show(
        self, cnn: Path, command: list[str]
    ) -> None:
        models = [cnn] * {"inspect": 1, "suggest-pairs": 2}.get(command[0], 0)
        legible = {"0", "1", "2", "31", "35", "39"}
        codes = re.findall(r"\x1b\[([\d;]*)m", terminal(80, *command, *models))

        # Reset, bold, dim, red, magenta, and the ground's own.
        assert {part for code in codes for part in code.split(";")} <= legible
        assert codes

    @pytest.mark.slow
    def test_a_path_is_folded_between_its_parts(self, cnn: Path) -> None:
        text = plain(terminal(60, "suggest-pairs", cnn, cnn))
        words = {word for line in text for word in line.split()}

        assert {"/Cnn/", "Residual/"} <= words
