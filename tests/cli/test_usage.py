"""What a command line may not ask for: it is refused before any work, with exit status 2."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

PAIR = "suggest-pairs cnn.json cnn.json"
CHECK = "check cnn.json cnn.json"
MERGE = "merge cnn.json cnn.json -o out --dry-run"
ENDS = "does not end as a picture does: .dot, .svg, .png, .pdf, .html"
NO_NUMBER = "is not a whole number from 1 to 999999999"
NOT_FILES = "not allowed with files, which have their own feeds: `cnn.json`"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("inspekt", "argument COMMAND: invalid choice: 'inspekt'"),
        ("inspect", "the following arguments are required: MODEL"),
        ("inspect a.json --limit 0", f"argument --limit: `0` {NO_NUMBER}"),
        ("inspect a.json --shape a,b", "`a,b` is not a shape: write dims as in `?,512,7,7`"),
        ("inspect a.json --no-such-option", "unrecognized arguments: --no-such-option"),
        ("inspect a.json --params --op add", "--params: not allowed with argument --op"),
        ("inspect a.json --params --stage 1", "--params: not allowed with argument --stage"),
        ("inspect cnn.json --input 3,16,16", f"argument --input: {NOT_FILES}"),
        ("inspect ''", "error[GT001] no-such-path: MODEL is empty"),
        ("suggest-pairs cnn.json ''", "error[GT001] no-such-path: MODEL is empty"),
        ("suggest-pairs a.json", "the following arguments are required: STUDENT"),
        (f"{PAIR} --match shape --as paddleocr", "--match: not allowed with argument --as"),
        (f"{PAIR} --match shape -o p.toml", "--match: not allowed with argument --output"),
        (f"{PAIR} --match shape --for relu_0", "--match: not allowed with argument --for"),
        (f"{PAIR} --match shape --evidence random", "--match: not allowed with argument --evid"),
        (f"{PAIR} --explain a=a --render a.svg", "--explain: not allowed with argument --render"),
        (f"{PAIR} --for a --recipe logits", "argument --for: not allowed with argument --recipe"),
        (f"{PAIR} --as paddleclas --json", "argument --as: not allowed with --format json"),
        (f"{PAIR} --as no-such-format", "error[GT320]"),
        (f"{PAIR} --force", "argument --force: needs argument --output"),
        (f"{PAIR} --batches 2", "argument --batches: needs argument --evidence"),
        (f"{PAIR} --allow-random", "argument --allow-random: needs argument --evidence"),
        (f"{PAIR} --evidence random --batches 0", f"argument --batches: `0` {NO_NUMBER}"),
        (f"{PAIR} --evidence x.csv", "`x.csv` is not a .npy, .npz, module:callable or random"),
        (f"{PAIR} --limit many", f"argument --limit: `many` {NO_NUMBER}"),
        (f"{PAIR} -o pairs.yaml", "argument --output: a recipe is a `.toml`, and `pairs.yaml` is"),
        (f"{PAIR} -o -", "argument --output: a recipe is a `.toml`, and `-` is not"),
        (f"{PAIR} -o ''", "argument --output: a recipe is a `.toml`, and `` is not"),
        (f"{PAIR} --render -", "argument --render: a picture goes to a file, not to stdout"),
        (f"{PAIR} --render pairs.jpg", f"error[GT402] unknown-ending: `pairs.jpg` {ENDS}"),
        (f"{PAIR} --input 3,16,16", f"argument --input: {NOT_FILES}"),
        (f"{PAIR} --teacher-input 3,16,16", f"argument --teacher-input: {NOT_FILES}"),
        (f"{PAIR} --student-input 3,16,16", f"argument --student-input: {NOT_FILES}"),
        (f"{CHECK} --student-input 3,16,16", f"argument --student-input: {NOT_FILES}"),
        (f"{CHECK} --feed image", "argument --feed: `image` is not TEACHER_FEED=STUDENT_FEED"),
        (f"{CHECK} --feed image=a --feed image=b", "--feed: `image` is given more than once"),
        (f"{CHECK} --render found.gif", f"error[GT402] unknown-ending: `found.gif` {ENDS}"),
        (f"{MERGE} --teacher-input 3,16,16", f"argument --teacher-input: {NOT_FILES}"),
        (f"{MERGE} --render found.gif", f"error[GT402] unknown-ending: `found.gif` {ENDS}"),
        ("render cnn.json --pairs p.toml", "argument --pairs: needs argument STUDENT"),
        ("render cnn.json --student-input 3", "argument --student-input: needs argument STUDENT"),
        ("render cnn.json --radius 3", "argument --radius: needs argument --focus"),
        ("render cnn.json --focus x --level block", "--focus: not allowed with argument --level"),
        ("render cnn.json -o picture.gif", f"`picture.gif` {ENDS}"),
        ("render cnn.json -o ''", f"`` {ENDS}"),
        ("completion tcsh", "argument SHELL: invalid choice: 'tcsh'"),
        ("explain GT9", "error[GT602] unknown-code: no diagnostic is called `GT9`"),
    ],
)
def test_wrong_usage_is_a_diagnostic_and_nothing_is_written(
    run: Run, cnn: Path, folder: Path, line: str, message: str
) -> None:
    shutil.copy(cnn, folder)
    result = run(*shlex.split(line))

    result.assert_refused(2, message)
    assert result.err.count("\n  = help: ") == 1
    assert [path.name for path in folder.iterdir()] == ["cnn.json"]


@pytest.mark.parametrize(
    ("line", "near", "help"),
    [
        ("inspect a.json --limt 3", "--limit", "graphtool inspect --help"),
        ("sugest-pairs a.json b.json", "suggest-pairs", "graphtool suggest-pairs --help"),
        # Beside another fault, which comes first.
        ("merge a.json b.json --outptu x", "--output", "graphtool merge --help"),
    ],
)
def test_a_misspelt_command_or_option_names_the_nearest(
    run: Run, line: str, near: str, help: str
) -> None:
    run(*line.split()).assert_refused(2, f"  = note: nearest: `{near}`\n  = help: {help}\n")
