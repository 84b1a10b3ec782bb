"""`check_merge` takes whatever can be read, touches nothing, and says all there is to say."""

import subprocess
import sys
from pathlib import Path

import paddle
import pytest

import graphtool as gt
from graphtool.diagnostics import MergeError, Severity, UsageError, registered_docs
from graphtool.merging import merge
from graphtool.sources.layers import from_layer
from tests.checks.programs import checked, classifier, codes, only, program, scope_of

_ROOT = Path(__file__).parents[2]
_FIXTURES = _ROOT / "tests" / "fixtures"


@pytest.mark.pir
@pytest.mark.parametrize("mode", ["pir", "legacy"])
def test_neither_programs_nor_scopes_are_touched(mode):
    teacher, student = program(classifier("x"), mode), program(classifier(), mode)
    scopes = {"scope": scope_of(student[1], mode), "teacher_scope": scope_of(teacher[1], mode)}
    before = [str(teacher[0]), str(student[0]), *_contents(scopes)]
    for options in ({}, {"name_prefix": ""}, {"parameters": "later"}):
        for feed_map in ({}, {"x": "image"}, {"no": "thing"}):
            checked(teacher, student, feed_map, **scopes, **options)
    assert [str(teacher[0]), str(student[0]), *_contents(scopes)] == before


def _contents(scopes):
    for scope in scopes.values():
        names = sorted(scope.local_var_names())
        yield names
        yield [_bytes(scope, name) for name in names]


def _bytes(scope, name):
    try:
        tensor = paddle.base.core.get_variable_tensor(scope, name)
    except ValueError:
        return None
    return tensor.__array__().tobytes() if tensor._is_initialized() else None


@pytest.mark.parametrize(
    "options",
    [
        {"feed_map": None},
        {"feed_map": ["x"]},
        {"feed_map": {"x": 3}},
        {"name_prefix": None},
        {"name_prefix": 3},
        {"scope": "x"},
        {"teacher_scope": 3},
    ],
    ids=str,
)
def test_an_argument_of_a_wrong_type_is_refused_by_its_name(options):
    teacher, student = program(classifier("x"))[0], program(classifier())[0]
    given = {"feed_map": {"x": "image"}, **options}
    for call in (gt.check_merge, merge):
        with pytest.raises(UsageError) as raised:
            call(teacher, student, **given)
        (found,) = raised.value.report
        assert found.code == "GT248"
        assert found.message.startswith(f"`{next(iter(options))}` is ")


@pytest.mark.pir
def test_values_in_a_feed_map_are_refused():
    teacher, student = program(classifier("x"))[0], program(classifier())[0]
    value = student.global_block().ops[-1].result(0)
    with pytest.raises(UsageError, match="GT248"):
        gt.check_merge(teacher, student, {value: value})


def test_what_cannot_be_read_is_in_the_report():
    report = gt.check_merge("nowhere.json", "nowhere.pdmodel", {})
    assert codes(report) == ["GT001", "GT001"]


@pytest.mark.slow
def test_files_are_checked_without_importing_paddle():
    model = str(_FIXTURES / "3.3.1" / "cnn.json")
    code = (
        "import sys; from graphtool.merging import check_merge;"
        f"report = check_merge({model!r}, {model!r}, {{'image': 'image'}});"
        "print(sorted({found.code for found in report}), 'paddle' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT
    )
    assert done.stdout.strip().endswith("False")
    assert "GT244" in done.stdout


@pytest.mark.slow
def test_every_pair_of_saved_models_can_be_checked():
    models = [path for path in _FIXTURES.rglob("*.json") if path.name != "counts.json"]
    models += _FIXTURES.rglob("*.pdmodel")
    student = program(classifier())[0]
    for model in models:
        report = gt.check_merge(model, student, {"image": "image"})
        assert all(found.code and found.message for found in report)
        if "training" in model.name:
            assert "GT222" in codes(report, Severity.ERROR), model


def test_a_network_of_dynamic_mode_brings_its_weights():
    paddle.disable_static()
    shape = [(3, 8, 8)]
    teacher = from_layer(paddle.nn.Conv2D(3, 4, 3), shape, train=False)
    student = from_layer(paddle.nn.Conv2D(3, 4, 3), shape)
    feed_map = {teacher.feeds[0]: student.feeds[0]}
    report = gt.check_merge(teacher, student, feed_map, scope=paddle.static.Scope())
    assert codes(report) == []


def test_rules_are_reported_in_the_order_of_their_codes():
    teacher, student = program(classifier("x")), program(classifier())
    report = checked(teacher, student, {"y": "z"}, name_prefix="")
    found = [code for code in codes(report) if code.startswith("GT2")]
    assert found == sorted(found)
    assert len(found) >= 6


def test_every_rule_is_documented_in_more_than_one_line():
    merge_codes = [code for code in sorted(registered_docs()) if "GT201" <= code <= "GT248"]
    assert len(merge_codes) >= 25
    for code in merge_codes:
        title, _, text = registered_docs()[code].partition("\n\n")
        assert title.startswith(code)
        assert len(text) > 40, code


@pytest.mark.call_stacks
def test_a_diagnostic_reads_as_a_whole():
    teacher, student = program(classifier("x")), program(classifier())
    found = only(checked(teacher, student, {}), "GT213")
    line = found.where[0].source
    assert str(found) == (
        "error[GT213] feed-left-out: the feed map leaves out the teacher's feed `x`\n"
        f"  --> teacher  <Program>  x  [-1, 3, 8, 8]  {line}\n"
        "  = note: nearest student feed: `image` [-1, 3, 8, 8]\n"
        '  = help: feed_map={"x": "image"}'
    )


def test_all_that_has_a_program_is_taken_and_judged_as_merge_does():
    paddle.disable_static()
    shape = [(3, 8, 8)]
    teacher = from_layer(paddle.nn.Conv2D(3, 4, 3), shape, train=False)
    student = from_layer(lambda: paddle.nn.Conv2D(3, 4, 3), shape)
    paddle.enable_static()
    for ours in (student, student.live, student.program):
        report = gt.check_merge(
            teacher, ours, {teacher.feeds[0]: student.feeds[0]}, paddle.static.Scope()
        )
        assert codes(report) == []
    scope = scope_of(student.startup)
    merged = merge(teacher, student.live, {teacher.feeds[0]: student.feeds[0]}, scope=scope)
    again = {"teacher_program": teacher, "feed_map": {teacher.feeds[0]: student.feeds[0]}}
    wanted = gt.check_merge(student_program=merged, scope=scope, **again)
    with pytest.raises(MergeError) as caught:
        merge(student_program=merged, scope=scope, **again)
    assert codes(caught.value.report) == codes(wanted)
    assert {"GT201", "GT204"} <= set(codes(wanted, Severity.ERROR))


@pytest.mark.pir
def test_a_legacy_student_that_is_translated_has_no_names_in_the_way():
    """Names of what is computed mean nothing in PIR: `relu_0.tmp_0` is no collision there."""
    teacher = program(classifier("x", train=False), "legacy")[0]
    student = program(classifier(train=False), "legacy")[0]
    feeds = {"x": "image"}
    kept = {"parameters": "later", "name_prefix": ""}
    as_it_is = gt.check_merge(teacher, student, feeds, **kept)
    assert codes(as_it_is).count("GT201") == 2
    translated = only(gt.check_merge(teacher, student, feeds, restored=True, **kept), "GT201")
    assert translated.message.startswith("8 teacher parameters get names that the student has")


def test_a_prefix_that_no_file_can_hold_is_refused():
    teacher, student = program(classifier("x"))[0], program(classifier())[0]
    with pytest.raises(UsageError, match=r"GT248.*name_prefix"):
        gt.check_merge(teacher, student, {"x": "image"}, name_prefix="\ud800")
