"""How the networks were built is looked at: modes, gradients, state, randomness, answers."""

from functools import partial

import paddle
import pytest
from paddle import nn

from graphtool import checks
from graphtool.diagnostics import Severity
from tests.checks.programs import checked, classifier, codes, data, only, program
from tests.networks import vision

_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])
_MAP = {"x": "image"}


def _evaluating(mode="pir"):
    return program(classifier("x", train=False), mode)


def _minimized(feed):
    def build():
        loss = classifier(feed)().mean()
        paddle.optimizer.SGD(0.1).minimize(loss)

    return build


@pytest.mark.call_stacks
@pytest.mark.pir
@_KINDS
def test_a_teacher_that_was_minimized_is_refused_at_the_line_that_did_it(mode):
    teacher, student = program(_minimized("x"), mode), program(classifier(), mode)
    found = only(checked(teacher, student, _MAP), "GT222")
    assert found.severity is Severity.ERROR
    assert "gradient or optimizer operators" in found.message
    assert found.where[0].source.startswith("test_networks.py:")


@pytest.mark.pir
@_KINDS
def test_a_student_that_was_minimized_is_refused(mode):
    report = checked(_evaluating(mode), program(_minimized("image"), mode), _MAP)
    found = only(report, "GT231")
    assert found.severity is Severity.ERROR
    assert found.notes[0] == "a loss added now is computed, but never trained"
    assert "GT222" not in codes(report)


@pytest.mark.pir
@_KINDS
def test_a_teacher_in_training_mode_is_frozen_which_is_worth_a_note(mode):
    report = checked(program(classifier("x"), mode), program(classifier(), mode), _MAP)
    dropout, norm = (found for found in report if found.code == "GT223")
    assert dropout.severity is norm.severity is Severity.NOTE
    assert dropout.message.startswith("1 teacher operator in training mode")
    assert norm.message.startswith("1 teacher batch norm in training mode")
    frozen = checked(_evaluating(mode), program(classifier(), mode), _MAP)
    assert "GT223" not in codes(frozen)


@pytest.mark.pir
def test_dropout_in_a_branch_of_the_teacher_is_seen():
    def branching():
        x = data("x", -1, 3, 8, 8)
        drop = nn.Dropout(0.5)
        paddle.static.nn.cond(x.mean() > 0, lambda: drop(x), lambda: x)

    found = only(checked(program(branching), program(classifier()), _MAP), "GT223")
    assert found.where[0].value == "if_0/0/dropout_0"


def test_a_counter_of_the_teacher_is_refused():
    def counting():
        x = data("x", -1, 3, 8, 8)
        steps = paddle.create_parameter([1], "float32", name="steps")
        paddle.increment(steps)
        (x.mean() + steps).mean()

    found = only(checked(program(counting), program(classifier()), _MAP), "GT225")
    assert found.severity is Severity.ERROR
    assert found.message == "`increment_0` writes `steps`, which the teacher keeps between runs"


@pytest.mark.pir
def test_a_counter_of_a_legacy_teacher_is_refused():
    def counting():
        x = data("x", -1, 3, 8, 8)
        steps = paddle.static.create_global_var([1], 0.0, "float32", persistable=True, name="steps")
        block = paddle.static.default_main_program().global_block()
        block.append_op(
            type="increment", inputs={"X": [steps]}, outputs={"Out": [steps]}, attrs={"step": 1.0}
        )
        x + steps

    teacher = program(counting, "legacy")
    found = only(checked(teacher, program(classifier(), "legacy"), _MAP), "GT225")
    assert found.message == "`increment_0` writes `steps`, which the teacher keeps between runs"


@pytest.mark.pir
def test_a_legacy_feature_map_marked_persistable_is_no_state():
    def kept():
        (data("x", -1, 3, 8, 8) * 2.0).persistable = True

    report = checked(program(kept, "legacy"), program(classifier(), "legacy"), _MAP)
    assert "GT225" not in codes(report)


@pytest.mark.parametrize(
    "dropout",
    [
        lambda: nn.Dropout2D(0.5),
        lambda: nn.Dropout(0.5, axis=1),
        lambda: nn.AlphaDropout(0.5),
    ],
    ids=["2D", "axis", "alpha"],
)
def test_dropout_that_test_mode_does_not_stop_is_an_error_unless_built_in_eval_mode(dropout):
    def network(*, train):
        # Of a known batch, for Paddle does not build alpha dropout of another.
        x, layer = data("x", 2, 3, 8, 8), dropout()
        (layer.train if train else layer.eval)()
        layer(x) * 1.0

    student = program(classifier(shape=(2, 3, 8, 8)))
    found = only(checked(program(lambda: network(train=True)), student, _MAP), "GT226")
    assert found.severity is Severity.ERROR
    assert found.help == "build the teacher in eval mode: layer.eval()"
    report = checked(program(lambda: network(train=False)), student, _MAP)
    assert not report.errors


def test_plain_dropout_and_a_seed_of_its_own_are_no_error():
    def seeded():
        x = nn.Dropout(0.5)(data("x", -1, 3, 8, 8))
        x + paddle.uniform([3, 8, 8], seed=3)

    report = checked(program(seeded), program(classifier()), _MAP)
    assert only(report, "GT226").severity is Severity.WARNING
    assert only(report, "GT223").severity is Severity.NOTE
    assert not report.errors


@pytest.mark.pir
def test_a_teacher_that_draws_numbers_is_an_error_and_shifts_those_of_the_student():
    def noisy():
        x = data("x", -1, 3, 8, 8)
        x + paddle.rand([3, 8, 8])

    report = checked(program(noisy), program(classifier()), _MAP)
    assert only(report, "GT226").severity is Severity.ERROR
    assert only(report, "GT226").where[0].value == "uniform_0"
    assert only(report, "GT227").where[1].value == "dropout_0"
    steady = program(classifier(train=False))
    assert "GT227" not in codes(checked(program(noisy), steady, _MAP))


# Paddle 3.3 does not build a legacy sigmoid.
@pytest.mark.pir
@pytest.mark.parametrize(
    ("answer", "mode"), [("softmax", "pir"), ("softmax", "legacy"), ("sigmoid", "pir")]
)
def test_an_answer_in_probabilities_names_the_logits_before(answer, mode):
    def probable():
        getattr(nn.functional, answer)(classifier("x", train=False)())

    teacher = program(probable, mode)
    found = only(checked(teacher, program(classifier(), mode), _MAP), "GT228")
    assert found.severity is Severity.WARNING
    logits = {"pir": "add_1", "legacy": "linear_0.tmp_1"}[mode]
    loss = "l2" if answer == "sigmoid" else "soft_label"
    assert found.help == f'{loss}("teacher_{logits}", ...)'
    assert f"holds probabilities, after {answer}" in found.message


def test_softmax_inside_attention_is_no_answer():
    def attention():
        x = data("x", -1, 6, 8)
        nn.TransformerEncoderLayer(8, 2, 16)(x)

    student = program(lambda: data("image", -1, 6, 8).mean())
    assert "GT228" not in codes(checked(program(attention), student, _MAP))


def test_probabilities_for_an_accuracy_are_no_answer_unless_a_loss_reads_them_too():
    def measured(*, loss: bool):
        label = data("label", -1, 1, dtype="int64")
        likely = nn.functional.softmax(classifier()())
        paddle.static.accuracy(likely, label)
        if loss:
            nn.functional.cross_entropy(likely, label, use_softmax=False)

    for loss in (False, True):
        student = program(partial(measured, loss=loss))
        found = codes(checked(program(classifier("x", train=False)), student, _MAP))
        assert ("GT228" in found) is loss


@pytest.mark.pir
@_KINDS
def test_a_student_in_test_mode_is_a_warning_that_says_how_to_wake_it(mode):
    student = program(classifier(train=False), mode)
    found = only(checked(_evaluating(mode), student, _MAP), "GT230")
    assert found.severity is Severity.WARNING
    assert found.help == "graphtool.for_training(student_program)"
    assert "GT230" not in codes(checked(_evaluating(mode), program(classifier(), mode), _MAP))


def test_one_batch_norm_that_is_frozen_on_purpose_makes_no_test_mode():
    def partly():
        classifier()()
        nn.BatchNorm2D(3, use_global_stats=True)(data("more", -1, 3, 8, 8))

    assert "GT230" not in codes(checked(_evaluating(), program(partly), _MAP))


@pytest.mark.pir
@_KINDS
def test_one_program_twice_is_a_note(mode):
    both = program(classifier(), mode)
    found = only(checked(both, both, {"image": "image"}), "GT232")
    assert found.severity is Severity.NOTE
    assert found.message.endswith("with copies of 8 tensors")


@pytest.mark.parametrize(
    "names",
    [
        ["resnet18"],
        pytest.param(
            ["mobilenet_v3_small", "googlenet", "shufflenet_v2_x0_25", "vgg11", "inception_v3"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_rule_runs_on_vision_models_without_an_error(names):
    student = vision("mobilenet_v1")
    for name in names:
        teacher = vision(name)
        plan = checks.plan_without_facts(teacher, student, {teacher.feeds[0]: student.feeds[0]})
        report = checks.run_rules(plan)
        assert not report.errors, str(report)


@pytest.mark.pir
def test_a_seed_that_was_fixed_when_the_student_was_built_is_a_note():
    def seeded():
        paddle.static.default_main_program().random_seed = 7
        classifier()()

    report = checked(_evaluating("legacy"), program(seeded, "legacy"), _MAP)
    found = only(report, "GT227")
    assert found.severity is Severity.NOTE
    assert found.message == "1 random operator of the student with a fixed seed"
    assert found.where[0].value == "dropout_0"
    assert "GT227" not in codes(checked(_evaluating(), program(classifier()), _MAP))


def test_a_view_of_a_parameter_is_no_write():
    def viewing():
        weight = paddle.create_parameter([4, 4], "float32", name="w")
        paddle.reshape_(weight, [2, 8])
        data("x", -1, 3, 8, 8).mean()

    assert "GT225" not in codes(checked(program(viewing), program(classifier()), _MAP))
