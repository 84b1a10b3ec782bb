"""The benchmark's command lists its rows, measures one, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import GROUPS, main
from tests.benchmarks.sampling import Outcome, Row, Sample, Turn
from tests.benchmarks.table import lines, table

pytestmark = pytest.mark.nightly

_READ = ["read-json", "--largest", "1000", "--rounds", "2"]


def _row(name: str) -> Row:
    return next(row for rows in GROUPS.values() for row in rows if row.name == name)


def test_rows_are_listed_with_what_they_are_compared_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "python -c 'import paddle'" in listed
    assert "seconds ≤ 0.35 × peer" in listed
    names = [row.name for rows in GROUPS.values() for row in rows]
    assert all(name in listed for name in names)
    assert len(names) == len(set(names)) == 36


def test_one_row_gives_its_table_and_every_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*_READ, "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "medians of 2" in said
    assert "read-json 1,000 " in said
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["failures"] == []
    assert f"python -m tests.benchmarks {' '.join(_READ)} -o {tmp_path}" in report["setting"]
    assert [run["size"] for run in report["cases"]] == [1000] * 3
    for run in report["cases"]:
        assert len(run["samples"]) == 2
        assert all(sample["seconds"] > 0 for sample in run["samples"])
    line = report["lines"][0]
    assert line["label"] == "read-json 1,000 cpu"
    assert line["ratio"] == pytest.approx(line["ours"] / line["floor"])
    assert line["met"] == (line["ratio"] <= 2)


def test_a_row_that_fails_says_why_and_ends_in_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["page-open", "--rounds", "1", "-o", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "AssertionError: no Chromium: `chromium` is not on the path" in said


def test_a_row_that_is_not_there_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["read-jsn"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "no row `read-jsn` among: help, " in said
    assert "read-json" in said


def test_growth_is_fitted() -> None:
    row = _row("read-json")
    outcomes: dict[Turn, Outcome] = {
        (row.ours, size): Outcome([Sample(size**1.5, peak=size) for _ in range(5)])
        for size in row.sizes
    }
    fitted = next(line for line in lines([row], outcomes) if line.target.of == "growth")
    assert fitted.ratio == pytest.approx(1.5)
    assert fitted.met is False


def test_a_median_of_samples_is_held_against_its_target() -> None:
    row = _row("suggest-pairs")
    assert row.peer is not None
    outcomes: dict[Turn, Outcome] = {
        (row.ours, None): Outcome([Sample(1.0, peak=30), Sample(3.0, peak=50), Sample(9.0)]),
        (row.peer, None): Outcome([Sample(10.0, peak=20)]),
    }
    seconds, peak = lines([row], outcomes)
    assert seconds.target.quantity == "seconds"
    assert (seconds.cells["ours"].value, seconds.cells["ours"].spread) == (3.0, 2.0)
    assert (seconds.ratio, seconds.met) == (pytest.approx(0.3), True)
    assert (peak.ratio, peak.met) == (pytest.approx(2.0), False)
    assert table([seconds, peak], 3).row_count == 2


def test_what_failed_half_way_is_not_judged() -> None:
    row = _row("render-10k")
    outcomes: dict[Turn, Outcome] = {(row.ours, None): Outcome([Sample(1.0)], failure="killed")}
    judged = next(lines([row], outcomes))
    assert (judged.cells, judged.met) == ({}, None)
