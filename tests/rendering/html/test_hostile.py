"""Pages of models whose names are hostile, in a real browser: text, told apart, and found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphtool import render, suggest_pairs
from graphtool.sources import read
from graphtool.text import escaped_code, printable
from tests.hostile.names import NAMES, legacy, variables
from tests.rendering.html.conftest import Browser

Browse = Callable[[Path], Browser]

_SAID = [name for name in NAMES.values() if not set("\ud800\udcff") & set(name)]
# What a script of a name would have done, and every text and tooltip on the page.
_ADDED = "img, iframe, object, embed, link, a, form, [onload], [onerror], script:nth-of-type(n + 3)"
# The program's own feed and fetch, and a parameter brought to the shape of a map.
_UNDRAWN = ("feed", "fetch", "reshape2")
_TEXTS = """
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [document.title];
while (walk.nextNode())
  if (!walk.currentNode.parentElement.matches("script, style"))
    found.push(...walk.currentNode.data.replaceAll("\\xa0", " ").split("\\n"));
for (const held of document.querySelectorAll("[title]")) found.push(...held.title.split("\\n"));
return JSON.stringify(found);
"""


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, len(_SAID) // 2])
def test_hostile_names_are_shown_as_on_a_terminal_and_do_nothing(
    browse: Browse, tmp_path: Path, shift: int
) -> None:
    names = dict(zip(variables(), _SAID[shift:] + _SAID[:shift], strict=False))
    graph = read(legacy(tmp_path / "cnn.pdmodel", names))
    render(suggest_pairs(graph, graph), tmp_path / "page.html", level="op")
    browser = browse(tmp_path / "page.html")
    texts = set(json.loads(browser.run(_TEXTS)))
    made = [op.results for op in graph.operators.values() if op.type not in _UNDRAWN]

    assert browser.run(f"return document.querySelectorAll({_ADDED!r}).length") == 0
    assert [text for text in texts if text.strip() and escaped_code(text) != text] == []
    assert [names for names in made if not texts & set(map(printable, names))] == []


@pytest.mark.slow
def test_a_search_takes_a_name_as_it_is_shown(browse: Browse, tmp_path: Path) -> None:
    name = "\x1b]8;;https://evil.test\x1b\\\u202e</script>"
    graph = read(legacy(tmp_path / "cnn.pdmodel", {"relu_1.tmp_0": name}))
    render(graph, tmp_path / "page.html")
    browser = browse(tmp_path / "page.html")
    browser.one("#search").send_keys(printable(name))

    assert [text.splitlines()[0] for text in browser.seen("#results button")] == [printable(name)]
