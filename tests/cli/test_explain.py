"""`graphtool explain`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

import graphtool
from graphtool.cli._explain import GONE
from graphtool.diagnostics import registered_docs, replacements

Run = Callable[..., Any]


def codes_in_the_source() -> list[str]:
    declared = re.compile(r'^@(?:rule|check|documented)\(\s*"(GT\d{3})"', re.MULTILINE)
    sources = Path(graphtool.__file__).parent.rglob("*.py")
    return sorted({code for path in sources for code in declared.findall(path.read_text("utf-8"))})


def test_every_code_of_earlier_releases_is_known(run: Run) -> None:
    run("explain")
    assert not replacements().keys() & registered_docs().keys()
    assert set(replacements().values()) <= set(registered_docs())
    assert len(replacements()) + len(registered_docs()) + len(GONE) == 279

    old = run("explain", "gt610")

    assert old.status == 0
    assert old.lines[:3] == ["GT610 is now GT604", "", "GT604 exists-already"]
    assert json.loads(run("explain", "GT610", "--format", "json").out)["code"] == "GT604"


def test_without_a_code_every_code_in_the_source_is_listed_with_a_slug_of_its_own(run: Run) -> None:
    result = run("explain")
    listed = [line.split() for line in result.lines if line.startswith("GT")]

    assert result.status == 0
    assert [code for code, _ in listed] == codes_in_the_source()
    assert len({slug for _, slug in listed}) == len(listed)
    assert ["GT001", "no-such-path"] in listed


def test_every_code_says_what_it_means_in_whole_sentences(run: Run) -> None:
    for entry in run("explain", "--format", "json").json:
        assert list(entry) == ["code", "slug", "docs"]
        assert len(entry["docs"]) > 40, entry
        assert entry["docs"].rstrip().endswith("."), entry


def test_a_code_is_explained_by_code_or_slug_in_any_case(run: Run) -> None:
    spellings = ["GT001", "gt001", "no-such-path", "No-Such-Path"]
    results = [run("explain", spelling) for spelling in spellings]

    assert {result.out for result in results} == {results[0].out}
    assert results[0].lines[:3] == snapshot(
        ["GT001 no-such-path", "", "The file or folder does not exist, or MODEL is empty."]
    )


def test_paragraphs_flow_on_one_line_where_output_is_piped(run: Run) -> None:
    paragraphs = run("explain", "GT301").out.split("\n\n")

    assert all(paragraph.count("\n") <= 1 for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("GT100", ["GT101 unknown-name", "GT102 ambiguous-name"]),
        ("gt999", []),
        ("GT11", ["GT102 ambiguous-name", "GT101 unknown-name"]),
        ("no-such-pat", ["GT001 no-such-path"]),
        ("zzzzzzzz", []),
    ],
)
def test_an_unknown_code_is_wrong_usage_and_names_the_nearest(
    run: Run, wanted: str, near: list[str]
) -> None:
    result = run("explain", wanted)
    title, *notes, typed = result.err.splitlines()

    assert (result.status, result.out) == (2, "")
    assert title == f"error[GT602] unknown-code: no diagnostic is called `{wanted}`"
    assert re.findall("`(.*?)`", "".join(notes))[: len(near) or None] == near
    code = f" {near[0].split()[0]}" if near else ""
    assert typed == f"  = help: graphtool explain{code}"


def test_a_code_of_what_is_gone_says_what_to_do_instead(run: Run) -> None:
    shown, data = run("explain", "GT113"), run("explain", "gt113", "--json").json

    assert shown.lines[0] == "GT113 gone"
    assert "`--format json` escapes all letters" in " ".join(shown.lines)
    assert (data["code"], data["slug"], data["docs"]) == ("GT113", "gone", GONE["GT113"])
