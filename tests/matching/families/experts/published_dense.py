"""Pairs of published detectors, segmenters and text detectors."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.published_detectors import PPYOLOE, PicoDet
from tests.matching.families.published_proposals import CenterNet, RegionProposals
from tests.matching.families.published_segmenters import BiSeNetV2, DBNet, SegFormer

__all__ = ["CASES"]

_ANY_IMAGE = ((3, -1, -1),)

_READ = "what the head reads"


def _levels(*levels: tuple[Place, str]) -> tuple[Expected, ...]:
    return tuple(
        Expected("feature", place, place, f"{_READ} at {where}, one to one")
        for place, where in levels
    )


def _heads(count: int, **names: str) -> tuple[Expected, ...]:
    """Return output against output, for each name and level."""
    return tuple(
        Expected("head", At(f"{name}.{level}"), At(f"{name}.{level}"), f"{what}, level {level}")
        for name, what in names.items()
        for level in range(count)
    )


_PICO = Case(
    name="a large PicoDet teaches a small one",
    family="published: PicoDet",
    teacher=Net(
        make=lambda: PicoDet((8, 16, 24, 32), (3, 5, 2), width=16, convs=3),
        inputs=((3, 128, 128),),
    ),
    student=Net(
        make=lambda: PicoDet((8, 12, 16, 24), (1, 3, 1), width=12, convs=2),
        inputs=((3, 128, 128),),
    ),
    expected=(
        *_levels(
            (At("neck.top_down_blocks.1"), "1/8"),
            (At("neck.bottom_up_blocks.0"), "1/16"),
            (At("neck.bottom_up_blocks.1"), "1/32"),
            (At("neck"), "1/64"),
        ),
        *_heads(4, gfl_cls="class scores", gfl_reg="box distributions"),
    ),
    never=(
        Never(At("neck.top_down_blocks.0"), At("neck.bottom_up_blocks.0"), "way down against up"),
        Never(At("neck.conv_t.0"), At("neck.top_down_blocks.1"), "nothing of the levels above yet"),
        Never(At("neck.conv_t.2"), At("neck.bottom_up_blocks.1"), "nothing of those below yet"),
        Never(At("neck.first_top_conv"), At("neck"), "one of the two that are added"),
        Never(At("backbone.stages.1"), At("neck.bottom_up_blocks.0"), "backbone against neck"),
        Never(At("gfl_cls.0"), At("gfl_cls.1"), "other level"),
    ),
    most=14,
    lead=12,
)

_PPYOLOE = Case(
    name="a large PP-YOLOE teaches a small one",
    family="published: PP-YOLOE",
    teacher=Net(
        make=lambda: PPYOLOE((8, 16, 16, 24, 32), (1, 2, 2, 1), neck_depth=2),
        inputs=((3, 96, 96),),
    ),
    student=Net(
        make=lambda: PPYOLOE((4, 8, 8, 12, 16), (1, 1, 1, 1), neck_depth=1),
        inputs=((3, 96, 96),),
    ),
    expected=(
        *_levels(
            (At("pan_stages.1"), "1/32"), (At("pan_stages.0"), "1/16"), (At("fpn_stages.2"), "1/8")
        ),
        *_heads(3, **{"head.pred_cls": "class scores", "head.pred_reg": "box distributions"}),
    ),
    never=(
        Never(At("fpn_stages.1"), At("pan_stages.0"), "the way down against the way up"),
        Never(At("fpn_stages.0"), At("pan_stages.1"), "the way down against the way up"),
        Never(At("stages.2"), At("pan_stages.0"), "backbone against neck at 1/16"),
        Never(At("head.stem_cls.0"), At("head.stem_reg.0"), "the path of scores against boxes"),
        Never(At("head.pred_reg.0"), At("head.pred_reg.1"), "equal channels, other level"),
    ),
    most=12,
    lead=9,
)

_CENTRES = Case(
    name="CenterNet teaches a shallow one, at any size",
    family="published: CenterNet",
    teacher=Net(make=lambda: CenterNet((8, 16, 24, 32), 3, up=(24, 16, 16)), inputs=_ANY_IMAGE),
    student=Net(make=lambda: CenterNet((4, 8, 12, 16), 1, up=(16, 12, 8)), inputs=_ANY_IMAGE),
    expected=(
        Expected("head", At("heatmap"), At("heatmap"), "heatmaps of the centres"),
        Expected("head", At("size"), At("size"), "sizes of the boxes"),
        Expected("head", At("offset"), At("offset"), "offsets of the centres"),
        Expected("feature", At("deconvs.2"), At("deconvs.2"), "what all three heads read, at 1/4"),
        Expected(
            "stage",
            At("backbone.layers.3"),
            At("backbone.layers.3"),
            "last block of the backbone, at 1/32",
        ),
    ),
    never=(
        Never(At("size"), At("offset"), "equal shape, but sizes against offsets"),
        Never(At("offset"), At("size"), "equal shape, but offsets against sizes"),
        Never(At("backbone.layers.0"), At("deconvs.2"), "equal H×W, but backbone against decoder"),
        Never(At("deconvs.1"), At("backbone.layers.1"), "equal H×W, but decoder against backbone"),
        Never(At("heatmap.0"), At("size.0"), "equal shape, but one head against another"),
    ),
    lead=4,
)

_PROPOSALS = Case(
    name="Faster R-CNN's region proposals teach those of a shallow one, at any size",
    family="published: RPN",
    teacher=Net(make=lambda: RegionProposals((8, 16, 24, 32), 3, width=16), inputs=_ANY_IMAGE),
    student=Net(make=lambda: RegionProposals((4, 8, 12, 16), 1, width=16), inputs=_ANY_IMAGE),
    expected=(
        *_levels(*((At(f"outer_convs.{level}"), f"1/{4 * 2**level}") for level in range(4))),
        *(
            Expected(
                "head",
                At("rpn_score", nth=level),
                At("rpn_score", nth=level),
                f"whether there is an object, level {level}: one head over all levels",
            )
            for level in range(5)
        ),
    ),
    never=(
        Never(At("inner_convs.1"), At("outer_convs.1"), "nothing of the levels above yet"),
        Never(At("backbone.layers.1"), At("outer_convs.1"), "backbone against neck at 1/8"),
        Never(At("outer_convs.1"), At("outer_convs.2"), "equal channels, other level"),
        Never(At("rpn_score", nth=0), At("rpn_score", nth=1), "equal channels, other level"),
        Never(At("rpn_delta", nth=1), At("rpn_delta", nth=2), "equal channels, other level"),
    ),
    most=16,
    lead=9,
)

_PIXELS = "class scores per pixel, before or after they are enlarged"


def _enlarged(scores: str, nth: int) -> tuple[At, ...]:
    return (At(scores), At("", "bilinear_interp", nth))


_SEGFORMER = Case(
    name="SegFormer teaches one half as wide and deep",
    family="published: SegFormer",
    teacher=Net(
        make=lambda: SegFormer((16, 16, 24, 32), (2, 2, 4, 2), embed=24), inputs=((3, 64, 64),)
    ),
    student=Net(
        make=lambda: SegFormer((8, 8, 16, 16), (1, 1, 2, 1), embed=12), inputs=((3, 64, 64),)
    ),
    expected=(
        Expected("logits", _enlarged("linear_pred", -1), _enlarged("linear_pred", -1), _PIXELS),
        Expected("feature", At("linear_fuse"), At("linear_fuse"), "what the last one reads"),
        Expected(
            "stage",
            (At("stages.3"), At("stages.3.norm")),
            (At("stages.3"), At("stages.3.norm")),
            "last block of the encoder, at 1/32, as tokens or as a map",
        ),
    ),
    never=(
        Never(At("stages.2"), At("stages.3"), "1/16 against 1/32"),
        Never(At("stages.0"), At("linear_fuse"), "equal H×W, but encoder against decoder"),
        Never(At("linears.0"), At("linears.3"), "equal channels, other stage"),
        Never(
            At("stages.2.blocks.1"), At("stages.2.blocks.1"), "half of the stage against its end"
        ),
        Never(At("stages.3.patch_norm"), At("stages.3.norm"), "the stage only begins there"),
    ),
)

_BILATERAL = Case(
    name="BiSeNetV2 teaches a narrow one, both with the heads they train with",
    family="published: BiSeNetV2",
    teacher=Net(
        make=lambda: BiSeNetV2((16, 16, 24), (8, 12, 16, 24)),
        inputs=((3, 128, 128),),
        mode="train",
    ),
    student=Net(
        make=lambda: BiSeNetV2((8, 8, 12), (4, 8, 8, 12)), inputs=((3, 128, 128),), mode="train"
    ),
    expected=(
        Expected("logits", _enlarged("head.cls", 2), _enlarged("head.cls", 2), _PIXELS),
        Expected(
            "feature",
            (At("head.conv"), At("bga"), At("bga.conv")),
            (At("head.conv"), At("bga"), At("bga.conv")),
            "both branches aggregated, or what the last convolution makes of them",
        ),
        Expected(
            "stage",
            (At("sb.3"), At("ce")),
            (At("sb.3"), At("ce")),
            "end of the semantic branch at 1/32, with or without its context",
        ),
    ),
    never=(
        Never(At("head.cls"), At("aux_heads.1.cls"), "the main head against an auxiliary one"),
        Never(At("aux_heads.1.cls"), At("head.cls"), "an auxiliary head against the main one"),
        Never(At("aux_heads.0.cls"), At("aux_heads.1.cls"), "heads of different stages"),
        Never(At("db.2"), At("sb.1"), "equal H×W, but one branch against the other"),
        Never(At("sb.1"), At("db.2"), "equal H×W, but one branch against the other"),
        Never(At("db.2"), At("bga"), "equal H×W, but one branch against both"),
    ),
    most=10,
)

_MAPS = At("", "concat", -1)

_TEXT_MAPS = Case(
    name="DBNet teaches one on a mobile backbone, three maps in training, at any size",
    family="published: DBNet",
    teacher=Net(
        make=lambda: DBNet("residual", (8, 16, 24, 32), 2, inner=16),
        inputs=_ANY_IMAGE,
        mode="train",
    ),
    student=Net(
        make=lambda: DBNet("inverted", (4, 8, 12, 16), 2, inner=8),
        inputs=_ANY_IMAGE,
        mode="train",
    ),
    expected=(
        Expected(
            "head",
            (At("binarize"), At("binarize.conv3"), _MAPS),
            (At("binarize"), At("binarize.conv3"), _MAPS),
            "the map of shrunk text, alone or with the others, before or after the sigmoid",
        ),
        Expected(
            "head",
            (At("thresh"), At("thresh.conv3"), _MAPS),
            (At("thresh"), At("thresh.conv3"), _MAPS),
            "the map of thresholds, alone or with the others",
        ),
        Expected("feature", At("neck"), At("neck"), "neck out: what both heads read"),
        Expected("stage", At("stages.3"), At("stages.3"), "backbone out: its last block, at 1/32"),
    ),
    never=(
        Never(At("binarize"), At("thresh"), "equal shape, but text against thresholds"),
        Never(At("thresh"), At("binarize"), "equal shape, but thresholds against text"),
        Never(At("stages.0"), At("neck"), "equal H×W, but backbone against neck"),
        Never(At("neck.ps.0"), At("neck.ps.1"), "equal channels, other level"),
        Never(
            At("binarize.conv1"), At("thresh.conv1"), "equal shape, but one head against another"
        ),
    ),
    lead=2,
)

CASES: tuple[Case, ...] = (
    _PICO,
    _PPYOLOE,
    _CENTRES,
    _PROPOSALS,
    _SEGFORMER,
    _BILATERAL,
    _TEXT_MAPS,
)
