"""Pairs of text recognisers: backbone out, neck out, head."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never
from tests.matching.families.recognisers import CRNN, SVTR, LightRecogniser

__all__ = ["CASES"]

_LINE = ((3, 32, 64),)
_ANY_LINE = ((3, 32, -1),)

_SCORES = "CTC scores of each step first"

_CRNN = Case(
    name="a CRNN teaches a narrow one, at any width",
    family="CRNN",
    teacher=Net(make=lambda: CRNN((8, 12, 16, 24), 2, 16), inputs=_ANY_LINE),
    student=Net(make=lambda: CRNN((8, 8, 12, 16), 1, 12), inputs=_ANY_LINE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("feature", At("neck"), At("neck"), "neck out: what the head reads"),
        Expected(
            "feature",
            (At("backbone"), At("backbone.block_list"), At("neck.encoder_reshape")),
            (At("backbone"), At("backbone.block_list"), At("neck.encoder_reshape")),
            "backbone out: its last block, or the pooled map that it hands over",
        ),
    ),
    never=(
        Never(
            At("neck.encoder_reshape"),
            At("neck"),
            "equal shape, but before the recurrent layers against behind them",
        ),
        Never(At("backbone.conv1"), At("backbone.conv1"), "stems are not used"),
        Never(
            At("backbone.block_list.5"),
            At("backbone.block_list.3"),
            "the ends of different stages",
        ),
    ),
)

_SVTR = Case(
    name="an SVTR teaches one of half its depth",
    family="SVTR",
    teacher=Net(make=lambda: SVTR((8, 12, 20), (2, 2, 2), local=3, out=24), inputs=_LINE),
    student=Net(make=lambda: SVTR((8, 12, 20), (1, 1, 1), local=2, out=18), inputs=_LINE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected(
            "feature",
            (At("backbone"), At("neck")),
            (At("backbone"), At("neck")),
            "backbone out, pooled to height 1; the neck only lays it out",
        ),
        *(
            Expected(
                "stage",
                At(f"backbone.blocks{stage}.1"),
                At(f"backbone.blocks{stage}.0"),
                f"last mixing block of stage {stage}, before the height is merged",
            )
            for stage in (3, 2, 1)
        ),
    ),
    never=(
        Never(
            At("backbone.blocks1.0"),
            At("backbone.blocks1.0"),
            "equal shape, but the teacher's stage goes on after it",
        ),
        Never(
            At("backbone.sub_sample1"),
            At("backbone.blocks2.0"),
            "equal shape, but the teacher's stage only begins there",
        ),
        Never(
            At("backbone.blocks3.1"),
            At("backbone.blocks2.0"),
            "the ends of different stages",
        ),
    ),
)

_LIGHT = Case(
    name="a recogniser with an SVTR neck teaches a narrow one, at any width",
    family="SVTR neck",
    teacher=Net(
        make=lambda: LightRecogniser((8, 12, 16, 24), 2, dim=16, mixing=2), inputs=_ANY_LINE
    ),
    student=Net(
        make=lambda: LightRecogniser((8, 8, 12, 16), 1, dim=12, mixing=1), inputs=_ANY_LINE
    ),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected(
            "feature",
            (At("neck"), At("encoder_reshape")),
            (At("neck"), At("encoder_reshape")),
            "neck out, as a map or laid out as steps",
        ),
        Expected(
            "feature",
            (At("backbone"), At("backbone.block_list")),
            (At("backbone"), At("backbone.block_list")),
            "backbone out: its last block, or the pooled map that it hands over",
        ),
    ),
    never=(
        Never(
            At("backbone"),
            At("neck.conv3"),
            "one resolution, but backbone against the inside of the neck",
        ),
        Never(At("neck.conv3"), At("backbone"), "the inside of the neck against the backbone"),
        Never(
            At("neck.conv2"),
            At("neck"),
            "equal channels in each, but the start of the neck against its end",
        ),
    ),
)

CASES: tuple[Case, ...] = (_CRNN, _SVTR, _LIGHT)
