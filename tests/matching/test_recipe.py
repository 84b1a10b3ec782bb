from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle.nn import functional as F  # noqa: N812

from graphtool.backend.live import translate
from graphtool.checks import check_pairs
from graphtool.diagnostics import GraphtoolError, PairError, Severity, UsageError
from graphtool.graph import Graph, Operator, Value
from graphtool.matching import PairSet, suggest_pairs
from graphtool.matching.fingerprint import (
    Fingerprint,
    fingerprints,
    parse_fingerprint,
    program_fingerprint,
)
from graphtool.matching.recipe import read_recipe, recipe_text, write_recipe
from graphtool.sources import read
from tests import networks
from tests.matching.rewrites import reordered
from tests.networks import Encoder, built

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Block(paddle.nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = paddle.nn.Conv2D(channels, channels, 3, padding=1, bias_attr=False)
        self.norm = paddle.nn.BatchNorm2D(channels)

    def forward(self, x: Any) -> Any:
        return F.relu(self.norm(self.conv(x)) + x)


class Net(paddle.nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = paddle.nn.Conv2D(3, width, 3, stride=2, padding=1)
        self.one = paddle.nn.Sequential(Block(width), Block(width))
        self.down = paddle.nn.Conv2D(width, 2 * width, 3, stride=2, padding=1)
        self.two = paddle.nn.Sequential(Block(2 * width), Block(2 * width))
        self.drop = paddle.nn.Dropout(0.3)
        self.head = paddle.nn.Linear(2 * width, 5)

    def forward(self, x: Any) -> Any:
        x = self.one(F.relu(self.stem(x)))
        x = self.two(F.relu(self.down(x)))
        return self.head(self.drop(paddle.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


class Auxiliary(Net):
    """A network with a branch that is cut off when it is saved for inference."""

    def forward(self, x: Any) -> Any:
        F.relu(F.adaptive_avg_pool2d(F.relu(x), 1))
        return super().forward(x)


def save(
    path: Path,
    net: Any,
    *,
    train: bool = False,
    batch: int = -1,
    side: int = 32,
    loss: bool = False,
) -> Graph:
    """Build a network into a PIR Program, save it as JSON, and read the file."""
    paddle.enable_static()
    main = paddle.static.Program()
    with (
        paddle.static.program_guard(main, paddle.static.Program()),
        paddle.utils.unique_name.guard(),
    ):
        image = paddle.static.data("image", [batch, 3, side, side], "float32")
        layer = net()
        layer.train() if train else layer.eval()
        logits = layer(image)
        if loss:
            label = paddle.static.data("label", [batch, 1], "int64")
            paddle.optimizer.Adam(0.01).minimize(F.cross_entropy(logits, label).mean())
    networks.save(main, path)
    paddle.disable_static()
    return read(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Graph:
    return save(folder / "teacher.json", lambda: Net(16))


@pytest.fixture(scope="module")
def student(folder: Path) -> Graph:
    return save(folder / "student.json", lambda: Net(8))


@pytest.fixture(scope="module")
def pairs(teacher: Graph, student: Graph) -> PairSet:
    """Suggest pairs; a recipe keeps what was chosen, and no alternatives to it."""
    suggested = suggest_pairs(teacher, student)
    return replace(suggested, pairs=tuple(replace(one, alternatives=()) for one in suggested))


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """Give Values other names, as a file may do."""

    def new(name: str) -> str:
        return names.get(name, name)

    def of(value: Value) -> Value:
        return replace(value, name=new(value.name))

    def operator(op: Operator) -> Operator:
        operands = tuple(None if name is None else new(name) for name in op.operands)
        return replace(op, operands=operands, results=tuple(map(new, op.results)))

    return replace(
        graph,
        values={new(name): of(value) for name, value in graph.values.items()},
        operators={name: operator(op) for name, op in graph.operators.items()},
        feeds=tuple(map(new, graph.feeds)),
        fetches=tuple(map(new, graph.fetches)),
    )


def codes(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [found.code for found in error.value.report]


def messages(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [found.message for found in error.value.report]


@pytest.mark.pir
def test_a_recipe_read_back_gives_the_same_pairs(pairs: PairSet) -> None:
    weights = [1.0, 0.5, 0.25, 2.0, *[1.0] * len(pairs)][: len(pairs)]
    text = recipe_text(pairs, weights=weights)
    recipe = read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    weighted = zip(pairs, weights, strict=True)
    assert recipe.pairs.pairs == tuple(replace(one, weight=weight) for one, weight in weighted)
    assert recipe.weights == tuple(weights)
    assert recipe_text(recipe.pairs) == text
    assert len(recipe.pairs.report) == 0


@pytest.mark.pir
def test_a_recipe_holds_file_names_and_no_paths_and_a_shape_on_one_line(
    folder: Path, pairs: PairSet
) -> None:
    text = recipe_text(pairs)
    assert "\nshape = [-1, 3, 32, 32]\n" in text
    assert 'source = "teacher.json"' in text
    assert str(folder) not in text


@pytest.mark.pir
@pytest.mark.slow
def test_an_inference_recipe_holds_for_training_with_a_loss_at_another_size(
    folder: Path, pairs: PairSet
) -> None:
    options: dict[str, Any] = {"train": True, "batch": 4, "side": 48, "loss": True}
    teacher = save(folder / "teacher_train.json", lambda: Net(16), **options)
    student = save(folder / "student_train.json", lambda: Net(8), **options)
    assert any(op.kind == "adam" for op in student.operators.values())
    recipe = read_recipe(recipe_text(pairs), teacher=teacher, student=student)
    assert [pair.student.name for pair in recipe.pairs] == [pair.student.name for pair in pairs]
    assert [found.code for found in recipe.pairs.report] == ["GT317", "GT317"]
    stage = next(pair for pair in recipe.pairs if pair.kind.value == "stage")
    assert stage.teacher.shape == (4, 32, 12, 12)


def test_a_legacy_training_program_has_what_a_pir_recipe_names() -> None:
    pir = read(FIXTURES / "3.3.1" / "cnn.json")
    legacy = read(FIXTURES / "3.3.1-legacy" / "training.pdmodel")
    text = recipe_text(suggest_pairs(pir, pir))
    recipe = read_recipe(text, teacher=pir, student=legacy)
    assert recipe.pairs.pairs[0].student.name == "linear_0.tmp_1"


@pytest.mark.parametrize("release", ["3.0.0", "3.1.1", "3.2.2", "3.3.1"])
def test_a_recipe_holds_for_files_of_every_release(release: str) -> None:
    first = read(FIXTURES / "3.0.0" / "cnn.json")
    later = read(FIXTURES / release / "cnn.json")
    text = recipe_text(suggest_pairs(first, first))
    recipe = read_recipe(text, teacher=later, student=later)
    assert [pair.teacher.name for pair in recipe.pairs] == [
        pair.teacher.name for pair in suggest_pairs(later, later)
    ]


def test_fingerprints_of_2_6_files_are_those_of_3_3_files() -> None:
    old = fingerprints(read(FIXTURES / "2.6.2" / "cnn.pdmodel"))
    new = fingerprints(read(FIXTURES / "3.3.1" / "cnn.json"))
    marks = {(mark.kind, mark.ancestors) for mark in new.values()}
    features = [mark for mark in old.values() if mark.kind in ("relu", "add", "conv2d", "matmul")]
    assert len(features) == 10
    assert all((mark.kind, mark.ancestors) in marks for mark in features)


@pytest.mark.pir
def test_a_renamed_value_is_found_and_noted(pairs: PairSet) -> None:
    name = pairs.pairs[0].teacher.name
    moved = renamed(pairs.teacher, {name: "elsewhere"})
    recipe = read_recipe(recipe_text(pairs), teacher=moved, student=pairs.student)
    assert recipe.pairs.pairs[0].teacher.name == "elsewhere"
    (note,) = recipe.pairs.report
    assert (note.code, note.severity) == ("GT317", Severity.NOTE)
    assert note.message == f"`pairs[0].teacher`: `{name}` is `elsewhere` in this program"


@pytest.mark.pir
def test_pruning_renumbers_names_and_the_values_are_found(folder: Path, student: Graph) -> None:
    whole = save(folder / "whole.json", lambda: Auxiliary(8))
    pairs = suggest_pairs(whole, whole)
    recipe = read_recipe(recipe_text(pairs), teacher=student, student=whole)
    stages = [pair for pair in recipe.pairs if pair.kind.value == "stage"]
    assert [(pair.student.name, pair.teacher.name) for pair in stages] == [
        ("relu_7", "relu_5"),
        ("relu_4", "relu_2"),
    ]
    moved = [pair for pair in recipe.pairs if pair.teacher.name != pair.student.name]
    assert [found.code for found in recipe.pairs.report] == ["GT317", *["GT317"] * len(moved)]


@pytest.mark.pir
def test_a_changed_network_is_stale_with_all_its_ends_named(folder: Path, pairs: PairSet) -> None:
    wider = save(folder / "wider.json", lambda: Net(12))
    with pytest.raises(PairError) as error:
        read_recipe(recipe_text(pairs), teacher=pairs.teacher, student=wider)
    assert codes(error) == ["GT317"] + ["GT316"] * len(pairs)
    stage = next(i for i, pair in enumerate(pairs) if pair.kind.value == "stage")
    name = pairs.pairs[stage].student.name
    found = error.value.report.diagnostics[1 + stage]
    assert found.message == (
        f"`pairs[{stage}].student`: stale: `{name}` was `relu` [?, 16, 8, 8] "
        "and is `relu` [?, 24, 8, 8] now"
    )
    assert [place.shape for place in found.where] == [(-1, 16, 8, 8), (-1, 24, 8, 8)]
    assert found.where[0].program == "student.json"


@pytest.mark.pir
def test_an_end_with_a_name_alone_is_any_selector(pairs: PairSet) -> None:
    text = """
schema = 1
[[pairs]]
kind = "feature"
loss = "attention"
weight = 3
teacher = { name = "relu_1" }
student = { name = "/Net/Sequential/Block_1" }
"""
    recipe = read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    (pair,) = recipe.pairs
    assert (pair.rank, pair.teacher.shape) == (1, (-1, 16, 16, 16))
    assert recipe.weights == (3.0,)


@pytest.mark.pir
def test_a_name_alone_that_is_missing_lists_the_nearest(pairs: PairSet) -> None:
    text = 'schema = 1\n[[pairs]]\nkind = "stage"\nloss = "l2"\nteacher = {name="rely_1"}\n'
    text += 'student = {name="relu_1"}\n'
    with pytest.raises(PairError) as error:
        read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    assert codes(error) == ["GT101"]
    assert "`relu_1`" in error.value.report.diagnostics[0].notes[0]


GOOD = """schema = 1
[[pairs]]
kind = "stage"
loss = "l2"
teacher = { name = "relu_1" }
student = { name = "relu_1" }
"""


@pytest.mark.pir
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("schema = 1\nx = [\n", "GT310", "the recipe is not valid TOML"),
        ("x = " + "[" * 100_000 + "\n", "GT310", "the recipe is not valid TOML"),
        ("schema = 2\n", "GT310", "the `schema` 2; this graphtool reads 1"),
        ("schema = true\n", "GT310", "a `schema` of another kind"),
        ("pairs = []\n\n", "GT310", "has no `schema`"),
        ("schema = 1\npairs = 3\n", "GT310", "`pairs`: Expected `array`, got `int`"),
        ("schema = 1\npairs = [3]\n", "GT310", "`pairs[0]`: Expected a table, got `int`"),
        (
            GOOD.replace('{ name = "relu_1" }', '"relu_1"', 1),
            "GT310",
            "`pairs[0].teacher`: Expected a table, got `str`",
        ),
        ("schema = 1\nteachers = 1\n", "GT310", "`the recipe`: Object contains unknown field"),
        (GOOD.replace('"l2"', '"l3"'), "GT314", "`pairs[0].loss`: there is no loss `l3`"),
        (GOOD.replace('"stage"', '"stag"'), "GT310", "`pairs[0].kind`: Invalid enum value 'stag'"),
        (GOOD.replace('"stage"', '"\ud800"'), "GT310", "surrogates not allowed"),
        (
            GOOD.replace('{ name = "relu_1" }', "{}", 1),
            "GT310",
            "`pairs[0].teacher`: Object missing",
        ),
        (GOOD.replace('"relu_1"', "7", 1), "GT310", "`pairs[0].teacher.name`: Expected `str`"),
        (GOOD + "wait = 1\n", "GT310", "`pairs[0]`: Object contains unknown field `wait`"),
        (GOOD + "weight = nan\n", "GT310", "`pairs[0].weight`: Expected `float` >= 0.0"),
        (GOOD + "weight = -1\n", "GT310", "`pairs[0].weight`: Expected `float` >= 0.0"),
        (GOOD + "weight = true\n", "GT310", "`pairs[0].weight`: Expected `float`, got `bool`"),
        (
            GOOD.replace("}", ', fingerprint = "x" }'),
            "GT310",
            "`pairs[0].teacher`: `fingerprint` is not",
        ),
        (GOOD + GOOD.partition("\n")[2], "GT310", "`pairs[1]` has the same Values"),
    ],
)
def test_a_bad_recipe_is_refused_with_its_place(
    pairs: PairSet, text: str, code: str, message: str
) -> None:
    with pytest.raises(PairError) as error:
        read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    assert codes(error)[0] == code
    assert message in messages(error)[0]


@pytest.mark.pir
@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("", "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"),
        ("pairs = []\n", "schema = 1"),
        ('schema = "1"\n', "schema = 1"),
        ("schema = 0\n", "schema = 1"),
        ("schema = 2\n", "git pull && pip install .  # in your clone of graphtool"),
    ],
)
def test_a_recipe_without_its_schema_is_told_what_to_write(
    pairs: PairSet, tmp_path: Path, text: str, help: str
) -> None:
    (tmp_path / "pairs.toml").write_text(text)
    with pytest.raises(PairError) as error:
        read_recipe(tmp_path / "pairs.toml", teacher=pairs.teacher, student=pairs.student)
    assert [found.help for found in error.value.report] == [help]


@pytest.mark.pir
def test_a_name_that_was_edited_by_hand_is_meant(pairs: PairSet) -> None:
    """The fingerprint beside it is of the Value that was there before."""
    was = pairs.pairs[0].teacher.name
    text = recipe_text(pairs).replace(f'name = "{was}"', 'name = "conv2d_0"', 1)
    recipe = read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    names = [pair.teacher.name for pair in recipe.pairs]
    assert names == ["conv2d_0", *(pair.teacher.name for pair in pairs.pairs[1:])]
    (said,) = recipe.pairs.report
    assert (said.code, said.severity) == ("GT317", Severity.NOTE)
    assert said.message == ("`pairs[0].teacher`: the name was edited to `conv2d_0`, which is used")


@pytest.mark.pir
def test_a_pair_whose_name_was_edited_is_compared_anew(pairs: PairSet) -> None:
    """The adapter and the reasons in the file are of the Value that was there before."""
    text = recipe_text(pairs).replace('name = "relu_5"', 'name = "relu_2"', 1)

    recipe = read_recipe(text, teacher=pairs.teacher, student=pairs.student)

    (was, now) = pairs.pairs[2], recipe.pairs.pairs[2]
    assert (was.teacher.name, now.teacher.name, now.student.name) == ("relu_5", "relu_2", "relu_5")
    assert (was.adapter, now.adapter) == ("conv1x1(16->32)", "resize")
    assert (was.relation.value, now.relation.value) == ("channels", "spatial")
    assert now.why == ("both 16 channels", "41% deep in the teacher, 81% deep in the student")
    assert check_pairs(recipe.pairs, pairs.teacher, pairs.student).errors == ()
    assert recipe.pairs.pairs[3:] == pairs.pairs[3:]


@pytest.mark.pir
def test_an_adapter_that_was_edited_together_with_a_name_is_said_to_be_replaced(
    pairs: PairSet,
) -> None:
    text = recipe_text(pairs).replace('name = "relu_5"', 'name = "relu_2"', 1)
    for adapter in ("conv1x1(16->64)", ""):
        edited = text.replace(
            'adapter = "conv1x1(16->32)"\n', f'adapter = "{adapter}"\n' if adapter else "", 1
        )
        assert edited != text
        recipe = read_recipe(edited, teacher=pairs.teacher, student=pairs.student)
        assert recipe.pairs.pairs[2].adapter == "resize"
        (said,) = recipe.pairs.report
        had = f"`{adapter}`" if adapter else "no adapter"
        assert said.notes == (f"the file has {had}; the two need `resize` now",)


@pytest.mark.pir
def test_a_recipe_without_pairs_is_refused(pairs: PairSet) -> None:
    none = recipe_text(replace(pairs, pairs=()))
    with pytest.raises(PairError) as refused:
        read_recipe(none, teacher=pairs.teacher, student=pairs.student)
    (found,) = refused.value.report
    assert (found.code, found.severity) == ("GT367", Severity.ERROR)
    assert found.message == "the recipe has no pairs"


@pytest.mark.pir
def test_a_byte_order_mark_is_skipped(pairs: PairSet, tmp_path: Path) -> None:
    """Editors of Windows put one before what they write."""
    path = tmp_path / "pairs.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    networks = {"teacher": pairs.teacher, "student": pairs.student}
    found = read_recipe(path, **networks)
    assert [pair.teacher.name for pair in found.pairs] == ["relu_1"]
    assert len(read_recipe(f"\ufeff{GOOD}", **networks).pairs) == 1


@pytest.mark.pir
def test_networks_are_given_as_whatever_can_be_read(folder: Path, pairs: PairSet) -> None:
    text = recipe_text(pairs)
    recipe = read_recipe(
        text, teacher=folder / "teacher.json", student=str(folder / "student.json")
    )
    assert recipe.pairs.pairs == pairs.pairs


@pytest.mark.pir
def test_what_is_no_recipe_no_pairs_and_no_weights_is_told(pairs: PairSet, tmp_path: Path) -> None:
    wrong: Any = 2
    with pytest.raises(UsageError) as error:
        read_recipe(wrong, teacher=pairs.teacher, student=pairs.student)
    assert codes(error) == ["GT248"]
    with pytest.raises(UsageError) as error:
        write_recipe(wrong, wrong)
    assert codes(error) == ["GT248", "GT248"]
    weights: Any
    for weights in ([1.0], "1", [None] * len(pairs), [-1.0] * len(pairs), 3):
        with pytest.raises(UsageError, match=r"GT248.*`weights`"):
            write_recipe(pairs, tmp_path / "pairs.toml", weights=weights)
    weighing = replace(pairs, pairs=(pairs.pairs[0], replace(pairs.pairs[1], weight=-1.0)))
    with pytest.raises(UsageError, match=r"GT248.*`weights` is `\[1.0, -1.0\]`"):
        write_recipe(weighing, tmp_path / "pairs.toml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.pir
def test_all_bad_keys_are_told_at_once(pairs: PairSet) -> None:
    text = GOOD.replace('"l2"', '"l3"') + GOOD.partition("\n")[2].replace('"stage"', "1")
    with pytest.raises(PairError) as error:
        read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    assert codes(error) == ["GT314", "GT310"]
    assert messages(error)[1].startswith("`pairs[1].kind`")


@pytest.mark.pir
def test_one_pair_may_have_two_losses(pairs: PairSet) -> None:
    twice = GOOD + GOOD.partition("\n")[2].replace('"l2"', '"attention"')
    recipe = read_recipe(twice, teacher=pairs.teacher, student=pairs.student)
    assert [pair.loss for pair in recipe.pairs] == ["l2", "attention"]


@pytest.mark.pir
def test_a_file_that_is_missing_or_holds_random_bytes_is_refused(
    pairs: PairSet, tmp_path: Path
) -> None:
    (tmp_path / "bytes.toml").write_bytes(bytes(range(256)))
    for name, fix in (("none.toml", f"ls {tmp_path}"), ("bytes.toml", None)):
        with pytest.raises(PairError) as error:
            read_recipe(tmp_path / name, teacher=pairs.teacher, student=pairs.student)
        assert codes(error) == ["GT310"]
        assert fix in (None, error.value.report.errors[0].help)


HOSTILE = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\"'\\\n\r\t\0\x1b\x7f[]={}#\ud800"),
    min_size=1,
)


@pytest.mark.pir
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=HOSTILE, path=HOSTILE, why=HOSTILE)
@pytest.mark.slow
def test_hostile_names_are_read_back_exactly(
    pairs: PairSet, tmp_path: Path, name: str, path: str, why: str
) -> None:
    pair = pairs.pairs[0]
    teacher = renamed(pairs.teacher, {pair.teacher.name: name})
    end = replace(pair.teacher, name=name, layer=path)
    hostile = replace(
        pairs, teacher=teacher, pairs=(replace(pair, teacher=end, why=(why,)), *pairs.pairs[1:])
    )
    write_recipe(hostile, tmp_path / "pairs.toml")
    recipe = read_recipe(tmp_path / "pairs.toml", teacher=teacher, student=pairs.student)
    assert recipe.pairs.pairs == hostile.pairs


@pytest.mark.pir
def test_what_cannot_be_seen_is_written_by_its_number(pairs: PairSet) -> None:
    why = "é \\x85 \x85 \u202e \u200b \U000e0100 \udcff"
    pair = replace(pairs.pairs[0], why=(why,))
    text = recipe_text(replace(pairs, pairs=(pair,)))
    assert '"é \\\\x85 \\u0085 \\u202e \\u200b \\U000e0100 \udcff"' in text
    recipe = read_recipe(text, teacher=pairs.teacher, student=pairs.student)
    assert recipe.pairs.pairs[0].why == (why,)


@pytest.mark.pir
def test_a_recipe_replaces_a_file_whole_and_leaves_nothing_beside_it(
    pairs: PairSet, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.toml"
    path.write_text("old")
    write_recipe(pairs, path)
    assert path.read_text() == recipe_text(pairs)
    assert [found.name for found in tmp_path.iterdir()] == ["pairs.toml"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


@pytest.mark.pir
def test_an_unwritable_path_is_told_and_nothing_is_written(pairs: PairSet, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "pairs.toml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(GraphtoolError) as error:
            write_recipe(pairs, path)
        assert codes(error) == ["GT601"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fingerprints_are_the_same_in_every_process(teacher: Graph) -> None:
    script = (
        "import sys; from graphtool.sources import read;"
        "from graphtool.matching.fingerprint import program_fingerprint;"
        "g = read(sys.argv[1]); print(program_fingerprint(g))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, teacher.source],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert printed.stdout.strip() == program_fingerprint(teacher)


@pytest.mark.pir
def test_fingerprints_do_not_depend_on_the_order_of_independent_operators(teacher: Graph) -> None:
    other = reordered(teacher, 3).graph
    assert other.blocks[""].operators != teacher.blocks[""].operators
    assert fingerprints(other) == fingerprints(teacher)


@pytest.mark.pir
def test_no_two_layers_of_a_network_have_the_same_fingerprint(teacher: Graph) -> None:
    marks = fingerprints(teacher)
    kinds = ("conv2d", "batch_norm", "relu", "add", "matmul", "pool2d")
    results = [op.results[0] for op in teacher.operators.values() if op.kind in kinds]
    assert len(results) == 6 + 4 + 6 + 4 + 1 + 1 + 3
    assert len({(marks[name].kind, marks[name].ancestors) for name in results}) == len(results)


@pytest.mark.slow
def test_a_transformers_recipe_holds_for_training_on_longer_sequences() -> None:
    short = built(lambda: Encoder(2), (6, 16))
    long = built(lambda: Encoder(2), (9, 16), train=True)
    pairs = suggest_pairs(short, short)
    assert {"hidden_state", "attention"} <= {pair.kind.value for pair in pairs}
    recipe = read_recipe(recipe_text(pairs), teacher=short, student=long)
    assert [pair.student.name for pair in recipe.pairs] == [pair.student.name for pair in pairs]
    attention = next(pair for pair in recipe.pairs if pair.kind.value == "attention")
    assert attention.student.shape == (-1, 4, 9, 9)


@pytest.mark.pir
@pytest.mark.slow
def test_other_heads_on_the_same_weights_are_stale() -> None:
    pairs = suggest_pairs(*[built(lambda: Encoder(2, heads=4), (6, 16))] * 2)
    with pytest.raises(PairError) as error:
        read_recipe(
            recipe_text(pairs),
            teacher=pairs.teacher,
            student=built(lambda: Encoder(2, heads=2), (6, 16)),
        )
    attention = next(i for i, pair in enumerate(pairs) if pair.kind.value == "attention")
    name = pairs.pairs[attention].student.name
    assert (
        f"`pairs[{attention}].student`: stale: `{name}` was `matmul` [?, 4, 6, 6] "
        "and is `matmul` [?, 2, 6, 6] now"
    ) in messages(error)


@pytest.mark.pir
@pytest.mark.slow
def test_a_value_of_the_same_type_and_shape_is_said_to_be_computed_from_something_else() -> None:
    pairs = suggest_pairs(*[built(lambda: Encoder(2, heads=4), (6, 16))] * 2)
    deeper = built(lambda: Encoder(3, heads=4), (6, 16))
    with pytest.raises(PairError) as error:
        read_recipe(recipe_text(pairs), teacher=pairs.teacher, student=deeper)
    assert messages(error)[2] == (
        "`pairs[6].student`: stale: `mean_0` is `mean` [?, 32] as it was, "
        "and is computed from something else now"
    )
    assert error.value.report.diagnostics[1].help == (
        "graphtool suggest-pairs TEACHER STUDENT -o new.toml"
    )


@pytest.mark.parametrize("text", ["", "relu", "relu:7x7:12", "relu:7xx7:0123456789abcdef"])
def test_a_text_that_is_no_fingerprint_parses_to_none(text: str) -> None:
    assert parse_fingerprint(text) == (None, "")


@given(
    st.builds(
        Fingerprint,
        st.text(),
        st.lists(st.integers(-1, 2**31)).map(tuple),
        st.from_regex(r"\A[0-9a-f]{16}\Z"),
    )
)
@pytest.mark.slow
def test_a_fingerprint_is_read_from_its_own_text(mark: Fingerprint) -> None:
    assert parse_fingerprint(str(mark)) == (mark, "")


@pytest.mark.slow
def test_control_flow_has_fingerprints_through_its_blocks() -> None:
    graph = read(FIXTURES / "3.3.1" / "control.json")
    marks = fingerprints(graph)
    assert set(marks) == set(graph.values)
    loop = next(op for op in graph.operators.values() if op.kind == "while")
    assert marks[loop.results[0]].kind == "while"


@pytest.mark.pir
def test_a_recipe_of_a_legacy_file_is_read_for_its_translation_without_a_note() -> None:
    path = Path(__file__).parents[1] / "fixtures" / "3.3.1-legacy" / "cnn.pdmodel"
    recipe = recipe_text(suggest_pairs(str(path), str(path)))
    translated = translate(path).graph

    pairs = read_recipe(recipe, teacher=translated, student=translated).pairs

    assert [found.code for found in pairs.report] == []
    assert [pair.teacher.name for pair in pairs][:2] == ["add_2", "flatten_0"]
    other = replace(translated, source="elsewhere.pdmodel")
    said = read_recipe(recipe, teacher=other, student=translated).pairs.report
    assert [found.code for found in said] == ["GT317"]
