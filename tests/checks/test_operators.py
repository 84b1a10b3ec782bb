"""Kinds of Program that do not mix, and operators that Paddle may not know."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import paddle
import pytest

import graphtool as gt
from graphtool import checks, read
from graphtool.backend.devices import device_facts
from graphtool.backend.facts import known_operators
from graphtool.diagnostics import Severity
from graphtool.graph import ProgramKind
from tests.checks.programs import checked, classifier, codes, data, only, program

_ROOT = Path(__file__).parents[2]
_FIXTURES = _ROOT / "tests" / "fixtures"
_COUNTS = {*_FIXTURES.rglob("counts.json")}
_MODELS = sorted({*_FIXTURES.rglob("*.json"), *_FIXTURES.rglob("*.pdmodel")} - _COUNTS)
_MAP = {"x": "image"}


@pytest.mark.pir
def test_a_legacy_teacher_of_a_pir_student_is_translated_which_is_a_note():
    teacher = program(classifier("x", train=False), "legacy")
    report = checked(teacher, program(classifier()), _MAP)
    assert only(report, "GT243").severity is Severity.NOTE
    assert not report.errors


@pytest.mark.pir
def test_the_gradient_of_a_while_loop_cannot_be_translated():
    teacher = read(_FIXTURES / "2.6.2" / "control_training.pdmodel")
    student = read(program(classifier())[0])
    report = checks.run_rules(checks.plan_without_facts(teacher, student, {}))
    found = only(report, "GT243")
    assert found.severity is Severity.ERROR
    assert found.where[0].value == "while_grad_0"


@pytest.mark.pir
def test_a_pir_teacher_cannot_join_a_legacy_student():
    teacher = program(classifier("x", train=False))
    found = only(checked(teacher, program(classifier(), "legacy"), _MAP), "GT243")
    assert found.severity is Severity.ERROR
    assert "the teacher is PIR and the student legacy" in found.message


@pytest.mark.pir
def test_a_legacy_student_that_is_made_trainable_is_translated_for_a_pir_teacher():
    teacher, student = program(classifier("x")), program(classifier(train=False), "legacy")
    report = gt.check_merge(teacher[0], student[0], _MAP, restored=True)
    assert only(report, "GT243").severity is Severity.NOTE
    assert {"GT230"} & set(codes(report)) == set()
    assert "GT230" in codes(gt.check_merge(teacher[0], student[0], _MAP))


def test_an_operator_that_paddle_does_not_know_is_named():
    teacher = read(program(classifier("x", train=False))[0])
    relu = teacher.operators["relu_0"]
    operators = {**teacher.operators, "relu_0": replace(relu, type="custom_op.my_relu")}
    report = checked((replace(teacher, operators=operators), None), program(classifier()), _MAP)
    found = only(report, "GT244")
    assert found.severity is Severity.ERROR
    assert found.message == (
        "Paddle does not know 1 operator type of the teacher: `custom_op.my_relu`"
    )


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


@pytest.mark.pir
def test_quantised_operators_are_a_warning():
    teacher = read(program(classifier("x", train=False), "legacy")[0])
    relu = teacher.operators["relu_0"]
    operators = {**teacher.operators, "relu_0": replace(relu, type="quantize_linear")}
    graph = replace(teacher, operators=operators)
    found = only(checked((graph, None), program(classifier(), "legacy"), _MAP), "GT245")
    assert found.severity is Severity.WARNING
    assert found.message == "the teacher has 1 quantisation operator"


def test_lists_of_known_operators_tell_the_kinds_apart():
    pir, legacy = known_operators(ProgramKind.PIR), known_operators(ProgramKind.LEGACY)
    assert pir is not None
    assert legacy is not None
    assert {"pd_op.relu", "pd_op.while", "pd_op.batch_norm_", "pd_op.fetch"} <= pir
    assert {"relu", "while", "conditional_block", "fetch"} <= legacy
    assert not {"custom_op.my_relu", "pd_op.my_relu"} & pir
    assert "my_relu" not in legacy


def test_an_operator_of_the_student_that_paddle_does_not_know_is_named_as_well():
    student = read(program(classifier())[0])
    relu = student.operators["relu_0"]
    operators = {**student.operators, "relu_0": replace(relu, type="pd_op.my_relu")}
    teacher = program(classifier("x", train=False))
    found = only(checked(teacher, (replace(student, operators=operators), None), _MAP), "GT244")
    assert found.severity is Severity.ERROR
    assert found.where[0].role == "student"


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
