"""What shows itself in a notebook: pairs as a table, a report as it is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import graphtool as gt
from graphtool.diagnostics import Diagnostic, Report

_MODELS = Path(__file__).parents[1] / "fixtures" / "3.3.1"


def _elements(html: str) -> list[Element]:
    """Return all elements, with lines as they are broken."""
    return list(fromstring(f"<div>{html.replace('<br>', chr(10))}</div>").iter())[1:]


def _rows(html: str) -> list[list[str]]:
    """Return the texts of a table's cells, row by row."""
    rows = (element for element in _elements(html) if element.tag == "tr")
    return [[cell.text or "" for cell in row] for row in rows]


def _pairs() -> gt.PairSet:
    return gt.suggest_pairs(_MODELS / "cnn.json", _MODELS / "cnn.json")


def test_pairs_are_a_table_with_a_row_for_each() -> None:
    pairs = _pairs()
    head, first, *rest = _rows(pairs._repr_html_())

    assert head == ["#", "kind", "teacher", "student", "relation, loss", "why"]
    assert len(rest) + 1 == len(pairs)
    assert first[:2] == ["1", "logits"]
    assert first[2].split("\n")[:2] == [pairs[0].teacher.name, "[?, 5]"]
    assert first[4] == f"{pairs[0].relation.value}\nloss {pairs[0].loss}"
    assert first[5].split("\n") == [*pairs[0].why, *pairs[0].warnings]


def test_what_names_hold_is_no_markup() -> None:
    pairs = _pairs()
    end = replace(pairs[0].teacher, name="<script>\x1b[31m\n", layer="<b>")
    said = Diagnostic(message="a `</pre><script>`", code="GT999", slug="such")
    hostile = replace(
        pairs,
        pairs=(replace(pairs[0], teacher=end, why=("<i>", "&amp;")),),
        report=Report.of([said]),
    )

    html = hostile._repr_html_()

    assert {element.tag for element in _elements(html)} == {"table", "tr", "td", "pre"}
    assert "\x1b" not in html
    assert _rows(html)[1][2].split("\n")[0] == r"<script>\x1b[31m\n"
    assert "error[GT999] such: a `&lt;/pre&gt;&lt;script&gt;`" in html


def test_a_report_is_what_it_prints() -> None:
    report = gt.check_merge(_MODELS / "cnn.json", _MODELS / "cnn.json", {"nothing": "x"})
    shown = report._repr_html_()

    assert shown.startswith("<pre>error[GT210] unknown-feed: ")
    assert shown.count("\n") == str(report).count("\n")
    assert Report()._repr_html_() == "<pre>nothing found</pre>"
