"""One table of what fits a loss and what does not, judged alike in pairs and in calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool import losses
from graphtool.diagnostics import Severity

pytestmark = pytest.mark.pir

LOGITS = ("soft_label", "kl", "dkd", "skd", "lskd", "dist")
ONE = "over 1 {} is constant: it needs 2 or more"
# Loss, the teacher's shape, the student's, code, words of the message; and options or dtypes.
TABLE: list[tuple[Any, ...]] = [
    ("l2", (-1, 4, 6, 6), (-1, 4, 6, 6), None, ""),
    ("l2", (8, 4, 6, 6), (1, 4, 6, 6), None, ""),
    ("l2", (-1, 4), (-1, 4, 6, 6), "GT333", "have ranks 2 and 4; `l2` wants the same rank, 1 or"),
    ("kl", (-1, 4), (-1, 4, 6, 6), "GT333", "have ranks 2 and 4; `kl` wants the same rank, 2 or"),
    *(
        (loss, teacher, student, "GT333", words.replace("LOSS", loss))
        for loss in ("l2", "channel_wise", "pkd")
        for teacher, student, words in (
            ((-1, 4, 1, 1), (-1, 4, 6, 6), "; `LOSS` would broadcast one to the other"),
            ((-1, 4, 6, 6), (-1, 4, 6, 1), "; `LOSS` would broadcast one to the other"),
            ((-1, 1, 6, 6), (-1, 4, 6, 6), "; `LOSS` would broadcast one to the other"),
            ((-1, 4, 3, 3), (-1, 4, 6, 6), "[-1, 4, 3, 3] and [-1, 4, 6, 6]; `LOSS` wants equal"),
            ((-1, 4, -1, 3), (-1, 4, 6, 6), "[-1, 4, -1, 3] and [-1, 4, 6, 6]; `LOSS` wants equal"),
        )
    ),
    ("hint", (-1, 8, 6, 6), (-1, 4, 6, 6), None, ""),
    ("hint", (-1, 8, 6, 6), (-1, 4, 3, 3), "GT333", "`hint` wants dims 2, 3 to be equal"),
    ("hint", (-1, 4, 4, 4, 4), (-1, 4, 4, 4, 4), "GT333", "wants the same rank, 2 to 4"),
    ("hint", (-1, -1, 4, 4), (-1, -1, 4, 4), "GT336", "must know dim 1"),
    ("attention", (-1, 8, 6, 6), (-1, 4, 6, 6), None, ""),
    ("attention", (-1, 4), (-1, 4), "GT333", "wants the same rank, 3 to 5"),
    ("attention", (-1, 3, 1, 1), (-1, 3, 1, 1), "GT335", ONE.format("place")),
    ("channel_wise", (-1, 4), (-1, 4), "GT333", "wants the same rank, 3 to 5"),
    ("channel_wise", (-1, 3, 1, 1), (-1, 3, 1, 1), "GT335", ONE.format("place")),
    ("similarity", (-1, 4, 6, 6), (-1, 7), None, ""),
    ("similarity", (-1,), (-1, 4), "GT333", "wants rank 2 or more"),
    ("relational", (-1, 4), (-1,), "GT333", "wants rank 2 or more"),
    ("pkd", (-1, 4), (-1, 3, 4), "GT333", "have ranks 2 and 3; `pkd` wants the same rank, 2 to 4"),
    ("kl", (-1,), (-1,), "GT333", "wants the same rank, 2 or more"),
    *((loss, (-1, 3, 4), (-1, 3, 4), "GT333", "wants rank 2") for loss in ("dkd", "skd", "dist")),
    *((loss, (-1, 5), (-1, 5), None, "") for loss in LOGITS),
    *((loss, (-1, 5), (-1, 4), "GT333", f"`{loss}` wants equal shapes") for loss in LOGITS),
    *((loss, (-1, 1), (-1, 1), "GT335", "over 1 class is constant") for loss in LOGITS),
    *(
        (loss, (-1, 2), (-1, 2), "GT335", "over 2 classes is constant: it needs 3 or more")
        for loss in ("skd", "lskd")
    ),
    *((loss, (-1, -1), (-1, 5), "GT336", "must know dim 1") for loss in ("dkd", "skd", "lskd")),
    *(
        (loss, (-1, 7, 4), (-1, 7, 4), "GT336", f"`{loss}`: the class axis of ")
        for loss in ("soft_label", "kl", "lskd")
    ),
    ("kl", (-1, 7, 4), (-1, 7, 4), None, "", {"axis": 1}),
    ("kl", (-1, 1, 4), (-1, 1, 4), "GT335", "over 1 class", {"axis": 1}),
    ("lskd", (-1, -1, 4), (-1, -1, 4), "GT336", "must know dim 1 of", {"axis": -2}),
    ("hidden_state", (-1, 6, 8), (-1, 6, 4), None, ""),
    ("hidden_state", (-1, 4, 4, 4), (-1, 4, 4, 4), "GT333", "`hidden_state` wants rank 3"),
    ("hidden_state", (-1, 4, -1), (-1, 4, -1), "GT336", "must know dim 2"),
    ("attention_scores", (-1, 4, 4), (-1, 4, 4), "GT333", "wants rank 4"),
    ("attention_scores", (-1, 8, 6, 6), (-1, 4, 6, 6), "GT333", "wants equal shapes"),
    ("attention_scores", (-1, 2, 1, 1), (-1, 2, 1, 1), None, ""),
    ("attention_scores", (-1, 2, 1, 1), (-1, 2, 1, 1), "GT335", "over 1 key", {"by": "divergence"}),
    ("attention_relation", (-1, 2, 4, 4), (), "GT333", "have ranks 4 and 0"),
    ("attention_relation", (-1, 8, 6, 6), (-1, 4, 6, 6), "GT333", "wants dims 1, 2 to be equal"),
    ("attention_relation", (-1, 8, 6, 6), (-1, 8, 5, 6), "GT333", "wants dims 1, 2 to be equal"),
    ("attention_relation", (-1, 8, 6, 6), (-1, 4, 6, 6), None, "", {"heads": 4}),
    ("attention_relation", (-1, 4, 7, -1), (-1, 4, 7, -1), "GT336", "must know dim 3"),
    ("attention_relation", (-1, -1, 7, 8), (-1, -1, 7, 8), "GT336", "know dim 1", {"heads": 2}),
    ("attention_relation", (-1, 2, 1, 8), (-1, 2, 1, 8), "GT335", ONE.format("key")),
    *(
        ("l2", (-1, 4), (-1, 4), "GT334", f"of one dtype, not {' and '.join(dtypes)}", {}, dtypes)
        for dtypes in (
            ("float64", "float32"),
            ("float32", "float64"),
            ("int64", "int64"),
            ("int32", "float32"),
        )
    ),
    ("l2", (-1, 4), (-1, 4), None, "", {}, ("bfloat16", "float32")),
]


def value(name: str, shape: tuple[int, ...], dtype: str, *, learns: bool = True) -> Any:
    made = paddle.static.data(name, list(shape), dtype)
    made.stop_gradient = not learns
    return made


def graph(shape: tuple[int, ...], dtype: str) -> gt.Graph:
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        given = value("x", shape, dtype)
        nn.functional.relu(given) if "float" in dtype else paddle.scale(given)
    return gt.read(program)


def called(loss: str, teacher: Any, student: Any, options: Mapping[str, object]) -> gt.Report:
    """Return what a call of a loss raises; nothing is built then."""
    program = paddle.static.default_main_program()
    before = len(program.global_block().ops)
    try:
        assert tuple(losses.BY_NAME[loss](teacher, student, **options).shape) == ()
    except gt.PairError as error:
        assert len(program.global_block().ops) == before
        return error.report
    return gt.Report()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]} {row[1]} {row[2]} {row[5:]}")
def test_pairs_and_calls_are_judged_alike(row: tuple[Any, ...]) -> None:
    loss, teacher, student, code, words, options, dtypes = (
        *row,
        *({}, ("float32", "float32"))[len(row) - 5 :],
    )
    paddle.enable_static()
    graphs = graph(teacher, dtypes[0]), graph(student, dtypes[1])
    names = [next(reversed(one.values)) for one in graphs]
    paired = gt.check_pairs([(*names, loss)], *graphs, options={loss: options})
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        ends = value("t", teacher, dtypes[0], learns=False), value("s", student, dtypes[1])
        single = called(loss, *ends, options)

    discrete = "float" not in dtypes[1]  # no gradient passes through integers
    for report in (paired, single):
        found = [one for one in report if one.code != "GT348" or not discrete]
        assert {one.code for one in found} == ({code} if code else set())
        assert all(words in one.message for one in found), str(report)
        assert all(one.help and one.severity is Severity.ERROR for one in found)


RESIZED = "gt.losses.adapters.resize_to_smaller(teacher, {})"
WIDENED = "gt.losses.adapters.linear({}, 16)"
SIMILARITY = "gt.losses.similarity(teacher, {})"
# What is typed instead of a call, and instead of a pair.
FIXES = [
    ("l2", (-1, 8, 6, 6), (-1, 4, 6, 6), None, "hint"),
    ("l2", (-1, 4, 3, 3), (-1, 4, 6, 6), f"gt.losses.l2(*{RESIZED})", "similarity"),
    ("l2", (-1, 7, 16), (-1, 7, 8), f"gt.losses.l2(teacher, {WIDENED})", "hint"),
    ("l2", (-1, 9, 32), (-1, 7, 32), SIMILARITY, "similarity"),
    ("kl", (-1, 10), (-1, 5), SIMILARITY, "hint"),
    ("attention_scores", (-1, 12, 4, 4), (-1, 8, 4, 4), SIMILARITY, "hint"),
    (
        *("attention_relation", (-1, 12, 7, 16), (-1, 8, 7, 6)),
        *("gt.losses.attention_relation(teacher, {}, heads=4)", None),
    ),
    ("attention_relation", (-1, 12, 7, 16), (-1, 12, 6, 16), SIMILARITY, "similarity"),
    ("kl", (-1, 1), (-1, 1), "gt.losses.l2(teacher, {})", "l2"),
    ("attention", (-1, 3, 1, 1), (-1, 4, 1, 1), SIMILARITY, "similarity"),
]


@pytest.mark.parametrize(("loss", "teacher", "student", "call", "instead"), FIXES)
def test_what_is_advised_fits(
    loss: str, teacher: Any, student: Any, call: str | None, instead: str | None
) -> None:
    paddle.enable_static()
    graphs = graph(teacher, "float32"), graph(student, "float32")
    (found,) = gt.check_pairs([("relu_0", "relu_0", loss)], *graphs)
    if instead is not None:
        assert found.help == f'("relu_0", "relu_0", "{instead}")'
        assert not gt.check_pairs([eval(found.help)], *graphs)
    else:
        options = {"attention_relation": {"heads": 4}}
        assert found.help == (
            'gt.distill_loss(merged, pairs, options={"attention_relation": {"heads": 4}})'
        )
        assert not gt.check_pairs([("relu_0", "relu_0", loss)], *graphs, options=options)
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        ends = value("t", teacher, "float32", learns=False), value("s", student, "float32")
        (found,) = called(loss, *ends, {})
        if call is not None:
            assert found.help == call.format("student")
        built = eval(found.help or "", {"gt": gt, "teacher": ends[0], "student": ends[1]})
        assert tuple(built.shape) == ()


def test_a_scalar_is_no_logits_and_no_map() -> None:
    """Their class axis was looked for in a shape without dims."""
    paddle.enable_static()
    scalar = graph((), "float32")
    pair = ("relu_0", "relu_0", "kl")
    assert [one.code for one in gt.check_pairs([pair], scalar, scalar)] == ["GT333"]


EITHER = ["teacher", "student"]


@pytest.mark.parametrize(
    ("function", "from_probs", "roles"),
    [
        ("softmax", None, EITHER),
        ("softmax", "teacher", ["student"]),
        ("softmax", "both", []),
        ("sigmoid", None, EITHER),
        ("sigmoid", "both", EITHER),  # each score stands for itself
    ],
)
@pytest.mark.parametrize("loss", LOGITS)
def test_probabilities_are_refused_unless_they_are_declared(
    loss: str, function: str, from_probs: str | None, roles: list[str]
) -> None:
    def scores(name: str, *, learns: bool) -> Any:
        given = value(name, (-1, 5), "float32", learns=learns)
        return getattr(nn.functional, function)(given).reshape([-1, 5])

    paddle.enable_static()
    options = {"from_probs": from_probs}
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        scores("x", learns=True)
    network = gt.read(program)
    pairs = [("reshape_0", f"{function}_0", loss)]
    paired = gt.check_pairs(pairs, network, network, options={loss: options})
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        ends = scores("t", learns=False), scores("s", learns=True)
        single = called(loss, *ends, options)

    both = 'from_probs="both")'
    for report, names, fix in (
        (
            paired,
            "xx",
            f'gt.distill_loss(merged, pairs, options={{"{loss}": {{"from_probs": "both"',
        ),
        (single, "ts", f"gt.losses.{loss}(teacher, student, {both}"),
    ):
        assert [(one.code, one.where[0].role) for one in report] == [
            ("GT228", role) for role in roles
        ]
        for one, name in zip(report, names[-len(roles) :]):
            assert one.message.endswith(f"and `{loss}` takes the logits before {function}")
            assert one.notes == (f"the input of {function} is `{name}`",)
            l2 = '("x", "x", "l2")' if report is paired else 'gt.losses.l2("t", "s")'
            assert (one.help or "").startswith(l2 if function == "sigmoid" else fix)


def test_attention_behind_softmax_is_refused() -> None:
    paddle.enable_static()
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        weights = nn.functional.softmax(value("s", (-1, 2, 4, 4), "float32"))
        report = called("attention_scores", weights, weights, {})

    assert [(found.code, found.count) for found in report] == [("GT228", 2)]


@pytest.mark.parametrize(
    "made",
    [
        lambda x: paddle.cast(x > 0, "float32"),
        lambda x: paddle.cast(paddle.argmax(x, axis=1, keepdim=True), "float32"),
        lambda x: paddle.sign(x) * 2,
        lambda x: paddle.round(x),
        lambda x: paddle.ones_like(x),
    ],
)
def test_numbers_that_jump_carry_no_gradient_to_the_student(made: Any) -> None:
    def jumps(name: str) -> Any:
        return made(nn.Conv2D(3, 4, 3)(value(name, (-1, 3, 8, 8), "float32"))) * 1.0

    paddle.enable_static()
    program, other = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, other):
        jumps("x")
    network = gt.read(program)
    name = [name for name in network.values if name.startswith("scale")][-1]
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        single = called("l2", jumps("t"), jumps("s"), {})

    for report in (gt.check_pairs([(name, name)], network, network), single):
        assert [found.code for found in report] == ["GT348"]
