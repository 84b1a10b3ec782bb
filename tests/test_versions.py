"""The table of what works on which Paddle and Python has all that was run, and what was not."""

from __future__ import annotations

from pathlib import Path

from tests.versions import COLUMNS, table

HERE = Path(__file__).parent


def case(module: str, *, name: str = "test_it", kind: str = "") -> str:
    return f'<testcase classname="{module}" name="{name}">{kind and f"<{kind}/>"}</testcase>'


def row(text: str, release: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {release} |"))
    return line.strip("| ").split(" | ")


def test_all_that_was_run_is_counted_and_what_was_not_is_said(tmp_path: Path) -> None:
    reading, checks = "tests.readers.test_files", "tests.checks.test_feeds"
    cases = (
        # A module that cannot be imported.
        case("", name="tests.matching.test_suggest", kind="error"),
        *(case(reading, kind="skipped") for _ in range(99)),
        case("tests.readers.test_pir.TestInside"),
        *(case(checks) for _ in range(3)),
        *(case("tests.merging.test_pir", kind=kind) for kind in ("", "failure", "skipped")),
        case("tests.examples.test_examples"),
        case("tests.brand_new"),
    )
    report = f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"
    (tmp_path / "paddle-3.10.0-python-3.11.xml").write_text(report)

    text = table(tmp_path, ["3.3.1-3.9", "3.10.0-3.11", "2.6.2-3.11"])

    head, rule, *rows = text.splitlines()
    assert head == f"| Paddle | Python | {' | '.join(COLUMNS)} | other | GPU |"
    assert head.count("|") == rule.count("|") == rows[0].count("|")
    assert [one.split(" | ")[0] for one in rows] == ["| 2.6.2", "| 3.3.1", "| 3.10.0"]
    assert row(text, "2.6.2") == ["2.6.2", "3.11", *["not run"] * 9, "untested"]
    assert row(text, "3.10.0") == [
        *("3.10.0", "3.11"),
        *("1 + 99 skipped", "0 + 1 failed", "3", "1 + 1 failed + 1 skipped"),
        *("0", "0", "0", "0", "2"),
        "untested",
    ]


def test_each_column_is_of_tests_that_there_are() -> None:
    named = {part for parts in COLUMNS.values() for part in parts}

    assert named <= {path.stem for path in HERE.iterdir()}
