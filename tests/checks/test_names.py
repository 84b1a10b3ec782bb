"""Names that collide are found before the merge, in Programs and in Scopes."""

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.backend.live import set_merge_records
from graphtool.diagnostics import Severity
from tests.checks.programs import checked, classifier, codes, data, only, program, scope_of

_MAP = {"x": "image"}


def _named(*names, feed="image"):
    def build():
        x = data(feed, -1, 4)
        for name in names:
            x = nn.Linear(4, 4, weight_attr=name, bias_attr=False)(x)

    return build


@pytest.mark.pir
@pytest.mark.parametrize("mode", ["pir", "legacy"])
def test_an_empty_prefix_makes_equal_names_collide_with_a_count(mode):
    teacher, student = program(classifier("x"), mode), program(classifier(), mode)
    report = checked(teacher, student, _MAP, name_prefix="")
    found = next(d for d in report if d.code == "GT201" and "parameter" in d.message)
    # Weight and bias of the convolution and the linear layer, four tensors of the batch norm.
    assert found.message.startswith("8 teacher parameters get names that the student has")
    assert [place.role for place in found.where] == ["teacher", "student"]
    assert "count names from 0" in found.notes[-1]
    assert found.help == 'merge(..., name_prefix="teacher_")'


@pytest.mark.pir
def test_legacy_activations_collide_too():
    teacher = program(classifier("x"), "legacy")
    report = checked(teacher, program(classifier(), "legacy"), _MAP, name_prefix="")
    assert any("teacher activations get names" in d.message for d in report if d.code == "GT201")


@pytest.mark.call_stacks
def test_the_note_says_that_the_student_names_a_parameter_like_a_prefixed_one():
    teacher, student = program(_named("w", feed="x")), program(_named("teacher_w"))
    found = only(checked(teacher, student, _MAP), "GT201")
    assert found.message == (
        "1 teacher parameter gets a name that the student has: `teacher_w` is a parameter there"
    )
    assert found.notes == ("the student has names that start with `teacher_`, such as `teacher_w`",)
    assert found.help == 'merge(..., name_prefix="teacher_t_")'
    assert (found.where[0].value, found.where[0].shape) == ("w", (4, 4))
    assert found.where[0].source == found.where[1].source
    assert found.where[0].source.startswith("test_names.py:")


@pytest.mark.pir
def test_a_name_that_both_programs_give_is_laid_at_their_door():
    teacher, student = program(_named("conv1_weights", feed="x")), program(_named("conv1_weights"))
    found = only(checked(teacher, student, _MAP, name_prefix=""), "GT201")
    assert "both programs set the name `conv1_weights` explicitly" in found.notes[0]


@pytest.mark.pir
def test_programs_without_a_common_name_merge_under_the_empty_prefix_with_a_warning():
    teacher, student = program(_named("a", feed="x")), program(_named("b"))
    report = checked(teacher, student, _MAP, name_prefix="")
    assert codes(report, Severity.WARNING) == ["GT204"]
    assert "the prefix is empty" in only(report, "GT204").message
    assert not report.errors


def test_two_networks_that_own_one_name_in_one_scope_are_refused():
    teacher, student = program(_named("conv1_weights", feed="x")), program(_named("conv1_weights"))
    scope = scope_of(student[1])
    report = checked(teacher, student, _MAP, scope=scope)
    assert codes(report, Severity.ERROR) == ["GT202"]
    assert "have 1 tensor of the same name in one Scope" in only(report, "GT202").message
    apart = checked(teacher, student, _MAP, scope=scope, teacher_scope=scope_of(teacher[1]))
    assert codes(apart) == ["GT207"]
    later = checked(teacher, student, _MAP, scope=scope, parameters="later")
    assert codes(later, Severity.WARNING) == ["GT202"]
    assert not later.errors


def test_without_scopes_the_names_in_common_are_not_checked():
    teacher, student = program(_named("w", feed="x")), program(_named("w"))
    found = only(checked(teacher, student, _MAP), "GT202", Severity.NOTE)
    assert found.message.startswith("not checked: whether both programs use one Scope")
    assert "1 tensor of the same name" in found.message


def test_one_program_shares_its_scope_with_itself():
    both = program(_named("w"))
    report = checked(both, both, {"image": "image"}, scope=scope_of(both[1]))
    assert codes(report) == ["GT232"]


def test_a_student_name_that_starts_with_the_prefix_is_a_warning():
    teacher, student = program(_named("w", feed="x")), program(_named("teacher_other"))
    report = checked(teacher, student, _MAP)
    found = only(report, "GT204", Severity.WARNING)
    assert found.message == "1 student name starts with `teacher_` already"
    assert not report.errors


def test_two_teachers_with_one_prefix_are_refused():
    teacher, student = program(_named("w", feed="x")), program(_named("v"))

    class Earlier:
        prefix = "teacher_"

    set_merge_records(student[0], (Earlier(),))
    found = only(checked(teacher, student, _MAP), "GT204", Severity.ERROR)
    assert found.message == "an earlier teacher has the prefix `teacher_`"
    assert found.help == 'merge(..., name_prefix="teacher_t_")'
    assert "GT204" not in codes(checked(teacher, student, _MAP, name_prefix="second_"))


def test_tensors_left_in_the_scope_under_the_new_names_are_found():
    teacher, student = program(_named("w", feed="x")), program(_named("v"))
    scopes = {"scope": scope_of(student[1]), "teacher_scope": scope_of(teacher[1])}
    left = scopes["scope"].var("teacher_w").get_tensor()
    assert "GT206" not in codes(checked(teacher, student, _MAP, **scopes))
    left.set(np.zeros([4, 4], "float32"), paddle.CPUPlace())
    only(checked(teacher, student, _MAP, **scopes), "GT206", Severity.WARNING)
    left.set(np.zeros([2, 4], "float32"), paddle.CPUPlace())
    found = only(checked(teacher, student, _MAP, **scopes), "GT206", Severity.ERROR)
    assert "holds 1 tensor under teacher names: `teacher_w` [2, 4] float32" in found.message


def test_a_name_that_both_give_an_equal_tensor_is_kept_apart_which_is_a_note():
    teacher, student = program(_named("embedding", feed="x")), program(_named("embedding"))
    found = only(checked(teacher, student, _MAP), "GT207", Severity.NOTE)
    assert "1 tensor with the same name in both programs" in found.message
    assert found.message.endswith("`embedding`")
    counted = program(classifier("x")), program(classifier())
    assert "GT207" not in codes(checked(*counted, _MAP))
