"""The teacher's weights have to be where they are looked for, and be its own."""

import numpy as np
import paddle
import pytest

import graphtool as gt
from graphtool.diagnostics import MergeError, Severity, UsageError
from graphtool.merging import merge
from graphtool.readers.tensor_files import parameter_file_facts
from tests.checks.programs import MODES, checked, classifier, codes, only, program, scope_of

_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])
_MAP = {"x": "image"}
_CPU = paddle.CPUPlace()


def _pair(mode="pir"):
    return program(classifier("x", train=False), mode), program(classifier(width=3), mode)


@pytest.mark.pir
@_KINDS
def test_a_teacher_whose_startup_ran_has_nothing_to_report(mode):
    teacher, student = _pair(mode)
    scopes = {"scope": scope_of(student[1], mode), "teacher_scope": scope_of(teacher[1], mode)}
    assert codes(checked(teacher, student, _MAP, **scopes)) == []


@pytest.mark.pir
@_KINDS
def test_a_teacher_whose_startup_never_ran_is_refused(mode):
    teacher, student = _pair(mode)
    empty = paddle.static.Scope()
    report = checked(teacher, student, _MAP, teacher_scope=empty)
    found = only(report, "GT235", Severity.ERROR)
    assert found.message.startswith("all 8 tensors of the teacher are missing from its Scope: `")
    later = checked(teacher, student, _MAP, teacher_scope=empty, parameters="later")
    only(later, "GT235", Severity.NOTE)
    assert empty.local_var_names() == []


def test_a_scope_that_was_not_given_is_not_checked():
    teacher, student = _pair()
    found = only(checked(teacher, student, _MAP), "GT235", Severity.NOTE)
    assert found.message == "not checked: whether the teacher's weights are loaded"


@pytest.mark.pir
@_KINDS
def test_an_empty_variable_is_told_from_a_missing_one_and_stays_empty(mode):
    teacher, student = _pair(mode)
    scope = scope_of(teacher[1], mode)
    scope.erase(["linear_0.w_0", "linear_0.b_0"])
    scope.var("linear_0.w_0")
    report = checked(teacher, student, _MAP, teacher_scope=scope)
    assert [found.message for found in report if found.code == "GT235"] == [
        "1 tensor of the teacher is missing from its Scope: `linear_0.b_0`",
        "1 tensor of the teacher is uninitialised in its Scope: `linear_0.w_0`",
    ]
    with pytest.raises(ValueError, match="VariableTensor"):
        paddle.base.core.get_variable_tensor(scope, "linear_0.w_0")


@pytest.mark.pir
def test_what_carried_feeds_and_fetches_is_no_weight():
    teacher, student = _pair("legacy")
    kinds = paddle.base.core.VarDesc.VarType
    with MODES["legacy"]():
        for main, _ in (teacher, student):
            block = main.global_block()
            block.create_var(name="feed", type=kinds.FEED_MINIBATCH, persistable=True)
            block.create_var(name="fetch", type=kinds.FETCH_LIST, persistable=True)
    ours, theirs = (scope_of(startup, "legacy") for _, startup in (student, teacher))
    assert codes(checked(teacher, student, _MAP, scope=ours, teacher_scope=theirs)) == []


@pytest.mark.pir
def test_weights_of_another_network_are_refused():
    teacher, student = _pair()
    scope = scope_of(teacher[1])
    scope.find_var("linear_0.b_0").get_tensor().set(np.zeros(7, "float32"), _CPU)
    scope.find_var("conv2d_0.b_0").get_tensor().set(np.zeros(4, "float64"), _CPU)
    found = only(checked(teacher, student, _MAP, teacher_scope=scope), "GT237", Severity.ERROR)
    assert found.message == (
        "2 tensors in the teacher's Scope do not fit the teacher: `linear_0.b_0` is [7] "
        "float32 there"
    )


def _saved(folder, mode="pir", width=4):
    main, startup = program(classifier("x", train=False, width=width), mode)
    with MODES[mode](), paddle.static.scope_guard(scope_of(startup, mode)):
        exe = paddle.static.Executor(_CPU)
        block = main.global_block()
        if mode == "pir":
            feed = next(op for op in block.ops if op.name() == "pd_op.data").result(0)
            answer = block.ops[-1].result(0)
        else:
            feed, answer = block.var("x"), block.var(block.ops[-1].output("Out")[0])
        path = folder / f"{mode}{width}"
        paddle.static.save_inference_model(str(path), [feed], [answer], exe, program=main)
    return path.with_suffix(".json" if mode == "pir" else ".pdmodel")


@pytest.mark.pir
@_KINDS
def test_a_saved_teacher_brings_its_weights_and_they_fit(tmp_path, mode):
    model = _saved(tmp_path, mode)
    student = program(classifier(), mode)
    report = gt.check_merge(model, student[0], _MAP)
    assert codes(report) == []
    facts = parameter_file_facts(model.with_suffix(".pdiparams"))
    assert facts.tensors[:3] == (((4,), "float32"),) * 3
    assert facts.tensors[-1] == ((4, 5), "float32")
    assert len(facts.tensors) == 8


@pytest.mark.pir
def test_a_saved_teacher_with_nothing_beside_it_lacks_its_weights_as_in_merge(tmp_path):
    model = _saved(tmp_path)
    model.with_suffix(".pdiparams").unlink()
    student = program(classifier())
    scope = scope_of(student[1], "pir")
    with pytest.raises(MergeError) as raised:
        merge(str(model), student[0], _MAP, scope=scope)
    for source in (model, str(model)):
        found = only(gt.check_merge(source, student[0], _MAP, scope), "GT235")
        assert found in raised.value.report.errors
        assert found.message.startswith("all 8 tensors of the teacher are missing from its Scope: ")
        lost = model.with_suffix(".pdiparams")
        assert found.notes == (f"there is no `{lost}`, where a saved model has its weights",)
        assert found.help == 'merge(..., parameters="later").load_teacher(FILE)'
    later = gt.check_merge(model, student[0], _MAP, scope, parameters="later")
    only(later, "GT235", Severity.NOTE)
    there = scope_of(program(classifier("x", train=False))[1], "pir")
    assert codes(gt.check_merge(model, student[0], _MAP, scope, there)) == []


@pytest.mark.pir
def test_a_parameter_file_of_another_model_is_refused(tmp_path):
    model, other = _saved(tmp_path), _saved(tmp_path, width=6)
    other.with_suffix(".pdiparams").replace(model.with_suffix(".pdiparams"))
    report = gt.check_merge(str(model), program(classifier())[0], _MAP)
    found = only(report, "GT237", Severity.ERROR)
    assert "holds 8 tensors, of which 1 fit; the teacher has 8 tensors" in found.message
    assert found.notes == ("the tensor read as `batch_norm2d_0.b_0` is [6] float32",)


@pytest.mark.pir
def test_a_damaged_parameter_file_is_in_the_report(tmp_path):
    model = _saved(tmp_path)
    weights = model.with_suffix(".pdiparams")
    weights.write_bytes(weights.read_bytes()[:-8])
    report = gt.check_merge(model, program(classifier())[0], _MAP)
    found = only(report, "GT240", Severity.ERROR)
    assert found.message.endswith("8 bytes of its data are missing")


def test_a_word_other_than_now_and_later_is_a_usage_error():
    teacher, student = _pair()
    with pytest.raises(UsageError, match="GT248") as error:
        checked(teacher, student, _MAP, parameters="never")
    assert error.value.report.diagnostics[0].message == (
        "`parameters` is `'never'`; wanted `now` or `later`"
    )
