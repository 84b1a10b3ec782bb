"""Kinds of Program that do not mix, and operators that Paddle may not know."""

from dataclasses import replace
from pathlib import Path

import pytest

from graphtool import checks, read
from graphtool.diagnostics import Severity
from graphtool.graph import ProgramKind
from graphtool.readers.facts import known_operators
from tests.checks.programs import checked, classifier, codes, only, program

_FIXTURES = Path(__file__).parents[1] / "fixtures"
_COUNTS = {*_FIXTURES.rglob("counts.json")}
_MODELS = sorted({*_FIXTURES.rglob("*.json"), *_FIXTURES.rglob("*.pdmodel")} - _COUNTS)
_MAP = {"x": "image"}


def test_a_legacy_teacher_of_a_pir_student_is_translated_which_is_a_note():
    teacher = program(classifier("x", train=False), "legacy")
    report = checked(teacher, program(classifier()), _MAP)
    assert only(report, "GT243").severity is Severity.NOTE
    assert not report.errors


def test_the_gradient_of_a_while_loop_cannot_be_translated():
    teacher = read(_FIXTURES / "2.6.2" / "control_training.pdmodel")
    student = read(program(classifier())[0])
    report = checks.run_rules(checks.plan_of(teacher, student, {}))
    found = only(report, "GT243")
    assert found.severity is Severity.ERROR
    assert found.where[0].value == "while_grad_0"


def test_a_pir_teacher_cannot_join_a_legacy_student():
    teacher = program(classifier("x", train=False))
    found = only(checked(teacher, program(classifier(), "legacy"), _MAP), "GT243")
    assert found.severity is Severity.ERROR
    assert found.message == (
        "the teacher is PIR and the student a legacy Program: Paddle has no way back"
    )


def test_a_legacy_student_that_is_made_trainable_is_translated_for_a_pir_teacher():
    teacher, student = program(classifier("x")), program(classifier(train=False), "legacy")
    report = checks.check_merge(teacher[0], student[0], _MAP, restored=True)
    assert only(report, "GT243").severity is Severity.NOTE
    assert {"GT230"} & set(codes(report)) == set()
    assert "GT230" in codes(checks.check_merge(teacher[0], student[0], _MAP))


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


@pytest.mark.parametrize("path", _MODELS, ids=lambda path: str(path.relative_to(_FIXTURES)))
def test_paddle_knows_every_operator_of_the_files_that_it_wrote(path):
    graph = read(path)
    report = checks.run_rules(
        checks.plan_of(graph, graph, {}, operators=known_operators(graph.kind))
    )
    assert "GT244" not in codes(report)


def test_without_a_list_the_operators_are_not_checked():
    graph = read(program(classifier())[0])
    found = only(checks.run_rules(checks.plan_of(graph, graph, {})), "GT244")
    assert found.message == "not checked: whether Paddle knows the teacher's operators"
    assert found.severity is Severity.NOTE


def test_quantised_operators_are_a_warning():
    teacher = read(program(classifier("x", train=False), "legacy")[0])
    relu = teacher.operators["relu_0"]
    operators = {**teacher.operators, "relu_0": replace(relu, type="quantize_linear")}
    graph = replace(teacher, operators=operators)
    found = only(checked((graph, None), program(classifier(), "legacy"), _MAP), "GT245")
    assert found.severity is Severity.WARNING
    assert found.message == "the teacher is quantised: it has 1 rounding operator"


def test_lists_of_known_operators_tell_the_kinds_apart():
    pir, legacy = known_operators(ProgramKind.PIR), known_operators(ProgramKind.LEGACY)
    assert pir is not None
    assert legacy is not None
    assert {"pd_op.relu", "pd_op.while", "pd_op.batch_norm_", "pd_op.fetch"} <= pir
    assert {"relu", "while", "conditional_block", "fetch"} <= legacy
    assert not {"custom_op.my_relu", "pd_op.my_relu"} & pir
    assert "my_relu" not in legacy
