"""Pairs that no loss fits are found by name, rank, shape and dtype."""

from dataclasses import replace
from pathlib import Path

import pytest
from paddle import nn, split, static

import graphtool
from graphtool import checks, read, suggest_pairs
from graphtool.diagnostics import UsageError
from tests.checks.programs import codes, data, only, program
from tests.networks import PlainConvolutions, built

pytestmark = pytest.mark.pir


def _graph(feed, channels, *, dtype="float32"):
    def build():
        x = nn.Conv2D(3, channels, 3, padding=1)(data(feed, -1, 3, 6, 6))
        x = nn.functional.relu(x).astype(dtype)
        x.mean([2, 3], keepdim=True)
        x.mean([2, 3])

    return read(program(build)[0])


_PAIR = ("relu_0", "relu_0")


def _learning(*shape, dtype="float32"):
    """Read a network of one relu, whose feed takes a gradient."""

    def build():
        x = data("x", *shape, dtype=dtype)
        x.stop_gradient = False
        nn.functional.relu(x)

    return read(program(build)[0])


def test_a_name_that_is_nowhere_says_which_side_and_what_is_near():
    report = checks.check_pairs([("relu_9", "relu_0")], _graph("x", 4), _graph("y", 4))
    found = only(report, "GT101")
    assert found.message == "a pair's teacher side: no Value is called `relu_9`"
    assert found.where[0].role == "teacher"
    assert "`relu_0`" in found.notes[0]


@pytest.mark.parametrize("name", ["relu_1", "teacher_relu_1"])
def test_a_teachers_name_on_the_students_side_is_said_to_be_one(name):
    def build():
        x = nn.functional.relu(nn.Conv2D(3, 4, 3, padding=1)(data("x", -1, 3, 6, 6)))
        nn.functional.relu(x)

    teacher, student = read(program(build)[0]), _graph("y", 4)
    found = only(checks.check_pairs([("relu_1", name)], teacher, student), "GT101")
    assert found.message == f"a pair's student side: no Value is called `{name}`"
    assert found.notes[0] == "it is the teacher's `relu_1`, and a pair names the teacher's first"


def test_the_teachers_side_may_have_the_name_that_merging_gives_it():
    graphs = _graph("x", 4), _graph("y", 4)
    assert codes(checks.check_pairs([("teacher_relu_0", "relu_0")], *graphs)) == []
    assert codes(checks.check_pairs([("t/relu_0", "relu_0")], *graphs, name_prefix="t/")) == []
    assert codes(checks.check_pairs([("t/relu_0", "relu_0")], *graphs)) == ["GT101"]


@pytest.mark.parametrize(
    ("pairs", "options", "named"),
    [
        ("pairs.toml", {}, ["pairs"]),
        (None, {}, ["pairs"]),
        ([("relu_0",), _PAIR, (*_PAIR, "l2", 2.0)], {}, ["pairs[0]", "pairs[2]"]),
        ([_PAIR], {"kl": 4}, ["options"]),
    ],
)
def test_what_are_no_pairs_or_options_is_refused_by_type(pairs, options, named):
    graph = _graph("x", 4)

    with pytest.raises(UsageError) as raised:
        checks.check_pairs(pairs, graph, graph, options=options)

    assert codes(raised.value.report) == ["GT248"] * len(named)
    for found, name in zip(raised.value.report, named):
        assert found.message.startswith(f"`{name}` is `")


def test_all_pairs_are_looked_at():
    pairs = [("a", "b"), ("mean_1", "relu_0"), ("mean_0", "relu_0")]
    report = checks.check_pairs(pairs, _graph("x", 4), _graph("y", 4))
    assert codes(report) == ["GT101", "GT101", "GT333", "GT333"]


def test_the_help_lists_partners_of_files_by_a_command_and_of_programs_by_a_call():
    teacher, student = _graph("x", 4), _graph("y", 4)
    found = only(checks.check_pairs([("mean_0", "relu_0")], teacher, student), "GT333")
    assert found.help == 'print(gt.partners(teacher, student, "mean_0"))'
    eval(found.help, {"gt": graphtool, "teacher": teacher, "student": student})

    path = str(Path(__file__).parents[1] / "fixtures" / "3.3.1" / "cnn.json")
    report = checks.check_pairs([("relu_0", "flatten_0")], path, path)
    assert only(report, "GT333").help == f"graphtool suggest-pairs {path} {path} --for relu_0"


@pytest.mark.slow
def test_channels_that_differ_want_an_adapter_as_suggested_pairs_have():
    teacher, student = _graph("x", 8), _graph("y", 4)
    assert codes(checks.check_pairs([_PAIR], teacher, student)) == ["GT333"]
    wide, narrow = (
        built(lambda widths=widths: PlainConvolutions(widths), (3, 32, 32))
        for widths in ([16, 32], [8, 16])
    )
    suggested = suggest_pairs(wide, narrow)
    assert any(pair.adapter for pair in suggested)
    assert codes(checks.check_pairs(suggested, wide, narrow)) == []


def _adapted(adapter, teacher, student):
    """Check the first stage that is suggested for two networks, with another adapter."""
    pair = next(one for one in suggest_pairs(teacher, student) if one.kind.value == "stage")
    return checks.check_pairs([replace(pair, adapter=adapter)], teacher, student)


@pytest.mark.parametrize(
    ("adapter", "code", "message", "help"),
    [
        ("mlp", "GT357", "there is no adapter `mlp`", 'adapter = "conv1x1"'),
        (
            "conv1x1(8 -> 99)",
            "GT357",
            "`conv1x1(8 -> 99)` brings `relu_3` to 99 channels, the teacher's `relu_3` has 32",
            'adapter = "conv1x1(16->32)"',
        ),
        (
            "linear(16->32)",
            "GT357",
            "`linear(16->32)` is applied to `relu_3` [-1, 16, 4, 4]; wanted a last dim of 16",
            'adapter = "conv1x1(16->32)"',
        ),
        (
            "resize",
            "GT333",
            (
                "`relu_3` and `relu_3` are [-1, 32, 4, 4] and [-1, 16, 4, 4] behind `resize`; "
                "`l2` wants equal shapes"
            ),
            'adapter = "conv1x1+resize"',
        ),
    ],
)
@pytest.mark.slow
def test_an_adapter_that_cannot_be_built_is_found(adapter, code, message, help):
    wide, narrow = (
        built(lambda widths=widths: PlainConvolutions(widths), (3, 16, 16), train=True)
        for widths in ([16, 32], [8, 16])
    )
    found = _adapted(adapter, wide, narrow).errors[-1]
    assert (found.code, found.message, found.help) == (code, message, help)
    written = found.help.partition('"')[2].rstrip('"')
    assert _adapted(written, wide, narrow).errors == ()


def test_a_student_that_is_fixed_is_found_unless_its_training_is_restored():
    def build():
        x = data("y", -1, 3, 6, 6)
        x = nn.Conv2D(3, 4, 3, padding=1)(x).detach()
        nn.functional.relu(x)

    teacher, student = _graph("x", 4), read(program(build)[0])
    found = only(checks.check_pairs([_PAIR], teacher, student), "GT348")
    assert found.message == "the student's side of `l2`, `relu_0`, gets no gradient"
    assert codes(checks.check_pairs([_PAIR], teacher, student, restored=True)) == []
    feed = only(checks.check_pairs([("y", "y")], student, student, restored=True), "GT348")
    assert "suggest-pairs" in (feed.help or "")
    assert "for_training" not in (feed.help or "")


def test_a_loss_that_does_not_exist_is_found_but_not_those_of_paddle():
    graphs = _graph("x", 4), _graph("y", 4)
    assert codes(checks.check_pairs([(*_PAIR, "l3")], *graphs)) == ["GT314"]
    assert codes(checks.check_pairs([(*_PAIR, "mse")], *graphs)) == []


def test_a_value_inside_of_a_branch_and_a_vector_are_helped_by_what_they_hand_on():
    def build():
        x = nn.Linear(6, 4)(data("x", -1, 6))
        static.nn.cond(x.mean() > 0, lambda: nn.functional.relu(x), lambda: x * 2)
        split(x, 2, axis=1)

    graph = read(program(build)[0])
    pairs = [("if_0/0/relu_0", "if_0"), ("split_with_num_0", "split_0")]
    inside, vector = checks.check_pairs(pairs, graph, graph)
    assert (inside.code, inside.help) == ("GT101", '"if_0"')
    assert "a pair's teacher side: `if_0/0/relu_0` is inside `if_0`; " in inside.message
    assert (vector.code, vector.help) == ("GT101", '"split_0"')
    assert "`split_with_num_0` is a vector of 2 tensors; " in vector.message


def test_a_flow_wants_two_pairs_and_one_size_within_each_network():
    flow = [("relu_0", "relu_0", "fsp"), ("mean_0", "mean_0", "fsp")]

    def found(*pairs):
        return checks.check_pairs(pairs, _graph("x", 4), _graph("y", 4))

    assert codes(found(flow[0], flow[0])) == []
    assert only(found(flow[0], ("add_0", "add_0"), *flow[:1] * 2), "GT367").message == (
        "`fsp` takes pairs by twos, a start and an end; `relu_0` has no partner"
    )
    said = "`relu_0` and `mean_0` are [-1, 4, 6, 6] and [-1, 4, 1, 1]; `fsp` would broadcast one to"
    assert [(one.message, one.count) for one in found(*flow)] == [(f"{said} the other", 2)]
