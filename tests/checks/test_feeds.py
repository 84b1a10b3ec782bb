"""Every way in which a feed map can be wrong is reported, with the map to type."""

import pytest
from paddle import nn

from graphtool.diagnostics import Severity
from tests.checks.programs import checked, classifier, codes, data, only, program

_KINDS = pytest.mark.parametrize("mode", ["pir", "legacy"])


def _feeds(*feeds):
    """Return what builds a linear layer over the sum of several feeds."""

    def build():
        total = 0.0
        for name, shape, dtype in feeds:
            total = total + data(name, *shape, dtype=dtype).astype("float32").mean()
        nn.Linear(1, 1, weight_attr=f"w_{feeds[0][0]}", bias_attr=False)(total.reshape([1, 1]))

    return build


_IMAGE = ("image", (-1, 3, 8, 8), "float32")


def _one(name, shape, dtype="float32", mode="pir"):
    return program(_feeds((name, shape, dtype)), mode)


@pytest.mark.pir
@_KINDS
def test_all_that_is_wrong_with_a_feed_map_is_reported_at_once(mode):
    teacher, student = _one("x", (-1, 3, 8, 8), mode=mode), program(_feeds(_IMAGE), mode)
    report = checked(teacher, student, {"y": "imag"})
    assert codes(report, Severity.ERROR) == ["GT210", "GT210", "GT213"]
    of_teacher, of_student, left_out = report.errors
    for found in report.errors:
        assert found.help == 'feed_map={"x": "image"}'
    assert of_teacher.message == "the teacher has no feed `y`"
    assert of_teacher.notes == ("the teacher's feeds: `x`",)
    assert of_student.message == "the student has no feed `imag` for teacher feed `y`"
    assert left_out.message == "the feed map leaves out the teacher's feed `x`"


def test_a_right_feed_map_leaves_nothing_to_say():
    teacher, student = _one("x", (-1, 3, 8, 8)), program(_feeds(_IMAGE))
    report = checked(teacher, student, {"x": "image"}, parameters="later")
    assert codes(report) == []


def test_a_student_feed_that_a_mistyped_feed_was_to_share_is_the_nearest_still():
    teacher, student = _one("x", (-1, 3, 8, 8)), program(_feeds(_IMAGE))
    found = only(checked(teacher, student, {"y": "image"}), "GT213")
    assert found.severity is Severity.ERROR
    assert found.notes == ("nearest student feed: `image` [-1, 3, 8, 8]",)


def test_a_feed_map_the_wrong_way_round_is_recognised():
    teacher, student = _one("x", (-1, 3, 8, 8)), program(_feeds(_IMAGE))
    found = checked(teacher, student, {"image": "x"}).errors[0]
    assert found.message == "the teacher has no feed `image`"
    assert "a feed map goes from teacher to student" in found.notes[-1]
    assert found.help == 'feed_map={"x": "image"}'


@pytest.mark.pir
@_KINDS
def test_a_student_value_that_is_computed_is_no_feed(mode):
    teacher, student = program(classifier("x"), mode), program(classifier(), mode)
    computed = {"pir": "relu_0", "legacy": "relu_0.tmp_0"}[mode]
    report = checked(teacher, student, {"x": computed})
    found = only(report, "GT210")
    assert found.severity is Severity.ERROR
    assert f"`{computed}` is not a feed" in found.message
    assert found.where[0].shape == (-1, 4, 6, 6)
    assert found.help == 'feed_map={"x": "image"}'


def test_a_feed_left_out_that_a_student_feed_fits_is_an_error():
    teacher, student = _one("picture", (-1, 3, 8, 8)), program(_feeds(_IMAGE))
    found = only(checked(teacher, student, {}), "GT213")
    assert found.severity is Severity.ERROR
    assert found.notes == ("nearest student feed: `image` [-1, 3, 8, 8]",)
    assert found.help == 'feed_map={"picture": "image"}'


@pytest.mark.pir
@_KINDS
def test_a_feed_that_no_student_feed_fits_becomes_one_of_the_merged_program(mode):
    teacher = program(_feeds(_IMAGE, ("mask", (-1, 8), "float32")), mode)
    student = program(_feeds(_IMAGE), mode)
    found = only(checked(teacher, student, {"image": "image"}), "GT213")
    assert found.severity is Severity.WARNING
    assert found.help == 'feed_map={"image": "image", "mask": "teacher_mask"}'
    said = checked(teacher, student, {"image": "image", "mask": "teacher_mask"})
    assert "GT213" not in codes(said)
    assert "GT210" not in codes(said)


def test_a_feed_map_can_say_that_a_feed_which_would_fit_is_not_shared():
    ids = ((-1, 1), "int64")
    teacher = program(_feeds(_IMAGE, ("ids", *ids)))
    student = program(_feeds(_IMAGE, ("label", *ids)))
    mapped = {"image": "image"}
    assert only(checked(teacher, student, mapped), "GT213").severity is Severity.ERROR
    assert "GT213" not in codes(checked(teacher, student, {**mapped, "ids": "teacher_ids"}))


def _with_loss(feed, label):
    def build():
        logits = classifier(feed, train=False)()
        target = data(label, -1, 1, dtype="int64")
        nn.functional.cross_entropy(logits, target).mean()

    return build


@pytest.mark.pir
@_KINDS
def test_the_label_of_a_teacher_with_its_loss_is_called_a_label(mode):
    teacher, student = program(_with_loss("x", "y"), mode), program(_with_loss("image", "l"), mode)
    report = checked(teacher, student, {"x": "image"})
    found = only(report, "GT213")
    assert found.severity is Severity.ERROR
    assert found.message == "the feed map leaves out the teacher's label `y`"
    assert found.help == 'feed_map={"x": "image", "y": "l"}'


def test_two_teacher_feeds_on_one_student_feed_are_a_warning():
    teacher = program(_feeds(("a", (-1, 4), "float32"), ("b", (-1, 4), "float32")))
    student = _one("image", (-1, 4))
    found = only(checked(teacher, student, {"a": "image", "b": "image"}), "GT215")
    assert found.severity is Severity.WARNING
    assert found.message == "teacher feeds `a`, `b` all read student feed `image`"


@pytest.mark.pir
@_KINDS
@pytest.mark.parametrize(
    ("shape", "dtype", "code", "words"),
    [
        ((-1, 192), "float32", "GT217", "`x` has rank 2, student feed `image` rank 4"),
        ((-1, 1, 9, 8), "float32", "GT217", "dims 1, 2 differ"),
        ((-1, 1, 8, 8), "float32", "GT217", "dim 1 differs"),
        ((-1, 3, 8, 8), "float64", "GT218", "`x` is float64, student feed `image` float32"),
    ],
)
def test_feeds_that_do_not_fit_are_errors(shape, dtype, code, words, mode):
    teacher, student = _one("x", shape, dtype, mode), program(_feeds(_IMAGE), mode)
    report = checked(teacher, student, {"x": "image"})
    assert codes(report, Severity.ERROR) == [code]
    assert words in only(report, code).message


@pytest.mark.parametrize(("channels", "said"), [(3, True), (1, False)])
def test_networks_for_two_sizes_of_image_are_first_to_be_built_for_one(channels, said):
    teacher, student = _one("x", (-1, channels, 16, 16)), program(_feeds(_IMAGE))

    found = only(checked(teacher, student, {"x": "image"}), "GT217")

    note = "build both networks for one image size, or feed the teacher separately"
    assert found.notes == ((note,) if said else ())
    assert found.help == 'feed_map={"x": "teacher_x"}'


def test_dims_that_are_not_known_agree_with_any():
    student = program(_feeds(_IMAGE))
    for shape in [(-1, 3, -1, -1), (-1, -1, 8, 8)]:
        report = checked(_one("x", shape), student, {"x": "image"}, parameters="later")
        assert codes(report) == []


@pytest.mark.pir
def test_levels_of_detail_that_differ_are_an_error():
    def sequence():
        data("x", -1, 4, lod_level=1).mean()

    teacher = program(sequence, "legacy")
    found = only(checked(teacher, _one("image", (-1, 4), mode="legacy"), {"x": "image"}), "GT219")
    assert found.severity is Severity.ERROR
    assert "`x` has lod_level 1, student feed `image` 0" in found.message


@pytest.mark.call_stacks
@pytest.mark.pir
@_KINDS
def test_a_fixed_batch_is_a_warning_and_so_is_a_reshape_to_it(mode):
    def fixed():
        x = data("x", 2, 3, 8, 8)
        nn.Linear(192, 5)(x.reshape([2, 192]))

    report = checked(program(fixed, mode), program(_feeds(_IMAGE), mode), {"x": "image"})
    batch, reshape = (found for found in report if found.code == "GT220")
    assert batch.severity is reshape.severity is Severity.WARNING
    assert "fixed batch of 2, student feed `image` any" in batch.message
    assert reshape.message.endswith("to [2, 192]")
    assert reshape.where[0].source.startswith("test_feeds.py:")


@pytest.mark.pir
@_KINDS
def test_a_reshape_that_keeps_the_batch_is_fine_in_a_teacher_of_fixed_batch(mode):
    def fixed():
        x = data("x", 2, 3, 8, 8)
        nn.Linear(192, 5)(x.reshape([-1, 192]))

    report = checked(program(fixed, mode), program(_feeds(_IMAGE), mode), {"x": "image"})
    assert "fixed batch of 2" in only(report, "GT220").message
