"""How the networks were built is looked at, and operators that Paddle may not know."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool import checks, read
from graphtool.backend.facts import device_facts, known_operators
from graphtool.diagnostics import Severity
from graphtool.graph import ProgramKind
from tests.checks.programs import checked, classifier, codes, data, only, program
from tests.networks import vision

_MAP = {"x": "image"}
_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])


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
    found = only(checked(teacher, student, _MAP), "GT222", Severity.ERROR)
    assert "gradient or optimizer operators" in found.message
    assert found.where[0].source.startswith("test_networks.py:")


@pytest.mark.pir
@_KINDS
def test_a_student_that_was_minimized_is_refused(mode):
    report = checked(_evaluating(mode), program(_minimized("image"), mode), _MAP)
    found = only(report, "GT231", Severity.ERROR)
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


def _counting():
    steps = paddle.create_parameter([1], "float32", name="steps")
    paddle.increment(steps)
    (data("x", -1, 3, 8, 8).mean() + steps).mean()


def _counting_in_legacy():
    steps = paddle.static.create_global_var([1], 0.0, "float32", persistable=True, name="steps")
    block = paddle.static.default_main_program().global_block()
    operands = {"inputs": {"X": [steps]}, "outputs": {"Out": [steps]}, "attrs": {"step": 1.0}}
    block.append_op(type="increment", **operands)
    data("x", -1, 3, 8, 8) + steps


def _keeping_a_map():
    (data("x", -1, 3, 8, 8) * 2.0).persistable = True


def _viewing():
    paddle.reshape_(paddle.create_parameter([4, 4], "float32", name="w"), [2, 8])
    data("x", -1, 3, 8, 8).mean()


@pytest.mark.pir
@pytest.mark.parametrize(
    ("build", "mode", "writes"),
    [
        (_counting, "pir", True),
        (_counting_in_legacy, "legacy", True),
        (_keeping_a_map, "legacy", False),
        (_viewing, "pir", False),
    ],
)
def test_a_teacher_that_writes_what_it_keeps_is_refused(build, mode, writes):
    report = checked(program(build, mode), program(classifier(), mode), _MAP)
    message = "`increment_0` writes `steps`, which the teacher keeps between runs"
    found = [(one.message, one.severity) for one in report if one.code == "GT225"]
    assert found == [(message, Severity.ERROR)] * writes


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
    found = only(
        checked(program(lambda: network(train=True)), student, _MAP), "GT226", Severity.ERROR
    )
    assert found.help == "build the teacher in eval mode: layer.eval()"
    report = checked(program(lambda: network(train=False)), student, _MAP)
    assert not report.errors


def test_plain_dropout_and_a_seed_of_its_own_are_no_error():
    def seeded():
        x = nn.Dropout(0.5)(data("x", -1, 3, 8, 8))
        x + paddle.uniform([3, 8, 8], seed=3)

    report = checked(program(seeded), program(classifier()), _MAP)
    only(report, "GT226", Severity.WARNING)
    only(report, "GT223", Severity.NOTE)
    assert not report.errors


@pytest.mark.pir
def test_a_teacher_that_draws_numbers_is_an_error_and_shifts_those_of_the_student():
    def noisy():
        x = data("x", -1, 3, 8, 8)
        x + paddle.rand([3, 8, 8])

    report = checked(program(noisy), program(classifier()), _MAP)
    only(report, "GT226", Severity.ERROR)
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
    found = only(checked(teacher, program(classifier(), mode), _MAP), "GT228", Severity.WARNING)
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
    found = only(checked(_evaluating(mode), student, _MAP), "GT230", Severity.WARNING)
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
    found = only(checked(both, both, {"image": "image"}), "GT232", Severity.NOTE)
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
    found = only(report, "GT227", Severity.NOTE)
    assert found.message == "1 random operator of the student with a fixed seed"
    assert found.where[0].value == "dropout_0"
    assert "GT227" not in codes(checked(_evaluating(), program(classifier()), _MAP))


_ROOT = Path(__file__).parents[2]
_FIXTURES = _ROOT / "tests" / "fixtures"
_COUNTS = {*_FIXTURES.rglob("counts.json")}
_MODELS = sorted({*_FIXTURES.rglob("*.json"), *_FIXTURES.rglob("*.pdmodel")} - _COUNTS)


@pytest.mark.pir
def test_a_legacy_teacher_of_a_pir_student_is_translated_which_is_a_note():
    teacher = program(classifier("x", train=False), "legacy")
    report = checked(teacher, program(classifier()), _MAP)
    only(report, "GT243", Severity.NOTE)
    assert not report.errors


@pytest.mark.pir
def test_the_gradient_of_a_while_loop_cannot_be_translated():
    teacher = read(_FIXTURES / "2.6.2" / "control_training.pdmodel")
    student = read(program(classifier())[0])
    report = checks.run_rules(checks.plan_without_facts(teacher, student, {}))
    found = only(report, "GT243", Severity.ERROR)
    assert found.where[0].value == "while_grad_0"


@pytest.mark.pir
def test_a_pir_teacher_cannot_join_a_legacy_student():
    teacher = program(classifier("x", train=False))
    found = only(checked(teacher, program(classifier(), "legacy"), _MAP), "GT243", Severity.ERROR)
    assert "the teacher is PIR and the student legacy" in found.message


@pytest.mark.pir
def test_a_legacy_student_that_is_made_trainable_is_translated_for_a_pir_teacher():
    teacher, student = program(classifier("x")), program(classifier(train=False), "legacy")
    report = gt.check_merge(teacher[0], student[0], _MAP, restored=True)
    only(report, "GT243", Severity.NOTE)
    assert {"GT230"} & set(codes(report)) == set()
    assert "GT230" in codes(gt.check_merge(teacher[0], student[0], _MAP))


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_an_operator_that_paddle_does_not_know_is_named(role):
    teacher, student = program(classifier("x", train=False))[0], program(classifier())[0]
    graphs = {"teacher": teacher, "student": student}
    graph = read(graphs[role])
    relu = replace(graph.operators["relu_0"], type="custom_op.my_relu")
    graphs[role] = replace(graph, operators={**graph.operators, "relu_0": relu})
    report = gt.check_merge(graphs["teacher"], graphs["student"], _MAP)
    found = only(report, "GT244", Severity.ERROR)
    message = f"Paddle does not know 1 operator type of the {role}: `custom_op.my_relu`"
    assert (found.message, found.where[0].role) == (message, role)


@pytest.mark.pir
@pytest.mark.parametrize("path", _MODELS, ids=lambda path: str(path.relative_to(_FIXTURES)))
def test_paddle_knows_every_operator_of_the_files_that_it_wrote(path):
    graph = read(path)
    known = known_operators(graph.kind)
    plan = replace(
        checks.plan_without_facts(graph, graph, {}), operators=known, student_operators=known
    )
    report = checks.run_rules(plan)
    assert "GT244" not in codes(report)


def test_without_a_list_the_operators_are_not_checked():
    graph = read(program(classifier())[0])
    found = only(checks.run_rules(checks.plan_without_facts(graph, graph, {})), "GT244")
    assert (
        found.message
        == "not checked: whether Paddle knows the operators of the teacher and the student"
    )
    assert found.severity is Severity.NOTE


def test_lists_of_known_operators_tell_the_kinds_apart():
    pir, legacy = known_operators(ProgramKind.PIR), known_operators(ProgramKind.LEGACY)
    assert pir is not None
    assert legacy is not None
    assert {"pd_op.relu", "pd_op.while", "pd_op.batch_norm_", "pd_op.fetch"} <= pir
    assert {"relu", "while", "conditional_block", "fetch"} <= legacy
    assert not {"custom_op.my_relu", "pd_op.my_relu"} & pir
    assert "my_relu" not in legacy


@pytest.mark.slow
@pytest.mark.parametrize("call", ["gt.merge(path, student, {'image': 'x'})", "for_training(path)"])
def test_a_file_with_an_operator_that_paddle_does_not_know_is_not_opened(tmp_path, call):
    """Paddle ends the process where it opens such a file, so it happens in one of its own."""
    text = (_FIXTURES / "3.3.1" / "cnn.json").read_text()
    path = tmp_path / "strange.json"
    path.write_text(text.replace('"1.relu"', '"1.my_relu"'))
    code = (
        "import paddle; paddle.enable_static()\n"
        "import graphtool as gt; from graphtool.training import for_training\n"
        f"path, student = {str(path)!r}, paddle.static.Program()\n"
        "with paddle.static.program_guard(student):\n"
        "    paddle.nn.Linear(8, 8)(paddle.static.data('x', [-1, 8]))\n"
        f"try:\n    {call}\n"
        "except gt.GraphtoolError as error:\n"
        "    print(type(error).__name__, *sorted({found.code for found in error.report}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=_ROOT
    )
    assert done.returncode == 0, done.stderr
    error, *found = done.stdout.split()
    assert error in ("MergeError", "ReadError")
    assert "GT244" in found


def _half(x):
    return paddle.exp(x.astype("float16")).astype("float32")


@pytest.mark.pir
@pytest.mark.slow
def test_what_the_place_cannot_compute_is_named():
    teacher = read(program(lambda: _half(data("x", -1, 8)))[0])
    student = program(lambda: data("image", -1, 8).mean())
    fits = gt.check_merge(teacher, student[0], _MAP, place="cpu")
    assert "GT246" not in codes(fits)

    (exp,) = (name for name, found in teacher.operators.items() if found.type == "pd_op.exp")
    for kind, severity, message in (
        ("pd_op.softmax", Severity.WARNING, "the cpu has no float16 kernel for `pd_op.softmax`"),
        ("pd_op.flash_attn", Severity.ERROR, "the cpu has no kernel for `pd_op.flash_attn`"),
        (
            "custom_op.mine",
            Severity.NOTE,
            "not checked: whether the cpu has kernels for `custom_op.mine`",
        ),
    ):
        operators = {**teacher.operators, exp: replace(teacher.operators[exp], type=kind)}
        report = gt.check_merge(
            replace(teacher, operators=operators), student[0], _MAP, place=paddle.CPUPlace()
        )
        found = only(report, "GT246")
        assert (found.severity, found.message) == (severity, message)


@pytest.mark.parametrize("path", _MODELS, ids=lambda path: str(path.relative_to(_FIXTURES)))
def test_a_cpu_computes_every_operator_of_the_files(path):
    graph = read(path)
    facts = device_facts(
        graph.kind, {found.type for found in graph.operators.values()}, paddle.CPUPlace()
    )
    plan = replace(checks.plan_without_facts(graph, graph, {}), device=facts)
    found = [found for found in checks.run_rules(plan) if found.code == "GT246"]
    assert all(found.severity is Severity.NOTE for found in found)
    assert bool(found) is ("_grad" in str(facts.unsure))


def test_without_a_place_nothing_is_asked_of_it():
    teacher = program(lambda: _half(data("x", -1, 8)))
    report = checked(teacher, program(lambda: data("image", -1, 8).mean()), _MAP)
    assert "GT246" not in codes(report)
