"""Pairs of detectors and of segmentation networks."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never
from tests.matching.families.detectors import (
    FCOS,
    YOLO,
    CSPDarkNet,
    MobileBackbone,
    basic_backbone,
    bottleneck_backbone,
)
from tests.matching.families.segmenters import DeepLab, DilatedMobileNet, DilatedResNet, UNet

__all__ = ["CASES"]

_IMAGE = ((3, 128, 128),)
_ANY_IMAGE = ((3, -1, -1),)


def _fcos_pairs() -> tuple[Expected, ...]:
    """Return the levels one to one, scores and boxes of each; one head runs on all levels."""
    levels = tuple(
        Expected(
            "feature",
            At(f"neck.fpn_convs.{level}"),
            At(f"neck.fpn_convs.{level}"),
            f"level {level} of the pyramid, one to one",
        )
        for level in range(3)
    )
    scores = tuple(
        Expected(
            "head",
            At("fcos_head.fcos_head_cls", nth=level),
            At("fcos_head.fcos_head_cls", nth=level),
            f"class scores of level {level}, in the order of the heads",
        )
        for level in range(3)
    )
    return (*levels, *scores, *map(_box, range(3)))


def _box(level: int) -> Expected:
    # Before the level's own factor, or behind it and its ReLU.
    raw = At("fcos_head.fcos_head_reg", nth=level)
    scaled = At(f"fcos_head.scales_on_reg.{level}")
    return Expected("head", (scaled, raw), (scaled, raw), f"distances of level {level}")


def _crossed_heads() -> tuple[Never, ...]:
    return tuple(
        Never(
            At("fcos_head.fcos_head_cls", nth=level),
            At(f"fcos_head.scales_on_reg.{level}"),
            "equal shape, but scores against distances",
        )
        for level in range(3)
    )


_FPN = Case(
    name="an anchor-free detector teaches one with a lighter backbone and head",
    family="FPN detector",
    teacher=Net(make=lambda: FCOS(bottleneck_backbone(), width=16, convs=2), inputs=_IMAGE),
    student=Net(make=lambda: FCOS(basic_backbone(), width=16, convs=1), inputs=_IMAGE),
    expected=_fcos_pairs(),
    never=(
        *_crossed_heads(),
        Never(
            At("", "nearest_interp", 0),
            At("neck.fpn_convs.1"),
            "equal shape, but the teacher's map only holds the level above, enlarged",
        ),
        Never(
            At("neck.lateral_convs.0"),
            At("neck.fpn_convs.0"),
            "equal shape, but the teacher's map has nothing of the levels above yet",
        ),
        Never(
            At("backbone.res_layers.0"),
            At("neck.fpn_convs.0"),
            "equal channels, but another level, and backbone against neck",
        ),
    ),
    most=12,
    lead=9,
)

_FPN_MOBILE = Case(
    name="an anchor-free detector teaches one with a mobile backbone, at any size",
    family="FPN detector",
    teacher=Net(make=lambda: FCOS(bottleneck_backbone(), width=16, convs=2), inputs=_ANY_IMAGE),
    student=Net(make=lambda: FCOS(MobileBackbone(), width=12, convs=2), inputs=_ANY_IMAGE),
    expected=_fcos_pairs(),
    never=(
        *_crossed_heads(),
        Never(
            At("fcos_head.cls_tower.1", nth=0),
            At("fcos_head.reg_tower.1", nth=0),
            "the tower of the scores against that of the distances",
        ),
        Never(
            At("neck.fpn_convs.1"),
            At("backbone.layers.2"),
            "neck against backbone at one resolution",
        ),
        Never(At("neck.fpn_convs.0"), At("neck.fpn_convs.1"), "different levels of the pyramids"),
    ),
    most=12,
    lead=9,
)

_PAN_LEVELS = (
    ("neck.fpn_blocks.1", "1/8"),
    ("neck.pan_blocks.0", "1/16"),
    ("neck.pan_blocks.1", "1/32"),
)


def _yolo_pairs() -> tuple[Expected, ...]:
    levels = tuple(
        Expected("feature", At(level), At(level), f"what the head reads at {where}, one to one")
        for level, where in _PAN_LEVELS
    )
    outputs = tuple(
        Expected(
            "head",
            At(f"yolo_outputs.{index}"),
            At(f"yolo_outputs.{index}"),
            f"output {index}, in the order of the heads",
        )
        for index in range(3)
    )
    return (*levels, *outputs)


_PAN = Case(
    name="a YOLO teaches a narrow one",
    family="PAN detector",
    teacher=Net(make=lambda: YOLO(CSPDarkNet(8, (1, 2, 2, 1)), depth=1), inputs=_IMAGE),
    student=Net(make=lambda: YOLO(CSPDarkNet(4, (1, 1, 1, 1)), depth=1), inputs=_IMAGE),
    expected=_yolo_pairs(),
    never=(
        Never(
            At("neck.lateral_convs.1"),
            At("neck.fpn_blocks.0"),
            "on the way down, where the way up is what the heads read",
        ),
        Never(
            At("neck.fpn_blocks.0"),
            At("neck.pan_blocks.0"),
            "the way down against the way up at one resolution",
        ),
        Never(
            At("", "nearest_interp", 0),
            At("backbone.csp_dark_blocks.2"),
            "an enlarged map against the backbone's of that resolution",
        ),
        Never(At("yolo_outputs.0"), At("yolo_outputs.1"), "equal channels, different levels"),
    ),
    lead=6,
)

_PAN_MOBILE = Case(
    name="a YOLO teaches one with a mobile backbone, at any size",
    family="PAN detector",
    teacher=Net(make=lambda: YOLO(CSPDarkNet(8, (1, 2, 2, 1)), depth=1), inputs=_ANY_IMAGE),
    student=Net(make=lambda: YOLO(MobileBackbone(), depth=1), inputs=_ANY_IMAGE),
    expected=_yolo_pairs(),
    never=(
        Never(
            At("backbone.csp_dark_blocks.1"),
            At("neck.fpn_blocks.1"),
            "backbone against neck at one resolution",
        ),
        Never(
            At("neck.pan_blocks.1"),
            At("backbone.layers.3"),
            "neck against backbone at one resolution",
        ),
        Never(At("yolo_outputs.2"), At("yolo_outputs.1"), "equal channels, different levels"),
    ),
    lead=6,
)

_PIXELS = "class scores per pixel, after the last convolution"
_BEFORE = "what the last convolution reads, the counterpart of an embedding"

_UNET = Case(
    name="a wide U-Net teaches a narrow one",
    family="U-Net",
    teacher=Net(make=lambda: UNet((8, 12, 16, 24, 24)), inputs=((3, 64, 64),)),
    student=Net(make=lambda: UNet((4, 8, 12, 16, 16)), inputs=((3, 64, 64),)),
    expected=(
        Expected("logits", At("cls"), At("cls"), _PIXELS),
        Expected("feature", At("up_sample_list.3"), At("up_sample_list.3"), _BEFORE),
        Expected(
            "stage",
            At("encode.down_sample_list.3"),
            At("encode.down_sample_list.3"),
            "last block of the encoder: one stage, the last",
        ),
    ),
    never=(
        Never(
            At("encode.double_conv"),
            At("up_sample_list.3"),
            "one resolution, but the start of the encoder against the end of the decoder",
        ),
        Never(
            At("up_sample_list.1"),
            At("encode.down_sample_list.1"),
            "one resolution, but decoder against encoder",
        ),
        Never(
            At("up_sample_list.0.deconv"),
            At("encode.down_sample_list.2"),
            "an enlarged map against the encoder's of that resolution",
        ),
    ),
)

_UNET_DEPTH = Case(
    name="a U-Net teaches one of equal widths with one resolution less, at any size",
    family="U-Net",
    teacher=Net(make=lambda: UNet((4, 8, 12, 16, 16)), inputs=_ANY_IMAGE),
    student=Net(make=lambda: UNet((4, 8, 12, 16)), inputs=_ANY_IMAGE),
    expected=(
        Expected("logits", At("cls"), At("cls"), _PIXELS),
        Expected("feature", At("up_sample_list.3"), At("up_sample_list.2"), _BEFORE),
    ),
    never=(
        Never(
            At("up_sample_list.3"),
            At("encode.double_conv"),
            "equal shape, but the end of the decoder against the start of the encoder",
        ),
        Never(
            At("up_sample_list.2"),
            At("encode.down_sample_list.0"),
            "equal shape, but decoder against encoder",
        ),
        Never(At("up_sample_list.2"), At("up_sample_list.2"), "equal number, other resolution"),
    ),
)


def _deeplab_pairs() -> tuple[Expected, ...]:
    return (
        Expected("logits", At("decoder.conv"), At("decoder.conv"), _PIXELS),
        Expected("feature", At("decoder.conv_bn_relu3"), At("decoder.conv_bn_relu3"), _BEFORE),
        Expected(
            "stage",
            At("backbone.stage_list.3"),
            At("backbone.groups.3"),
            "last block of the backbone, at 1/16 in both",
        ),
    )


_AUXILIARY = Expected(
    "head", At("aux_head"), At("aux_head"), "the auxiliary heads of both, after the main ones"
)

_DEEPLAB = Case(
    name="DeepLab teaches one on a mobile backbone, both with an auxiliary head",
    family="DeepLab",
    teacher=Net(
        make=lambda: DeepLab(DilatedResNet(), width=16, aux="fcn"), inputs=((3, 128, 128),)
    ),
    student=Net(
        make=lambda: DeepLab(DilatedMobileNet(), width=12, aux="fcn"), inputs=((3, 128, 128),)
    ),
    expected=(*_deeplab_pairs(), _AUXILIARY),
    never=(
        Never(At("aux_head"), At("decoder.conv"), "an auxiliary head against the main one"),
        Never(At("decoder.conv"), At("aux_head"), "the main head against an auxiliary one"),
        Never(
            At("aspp.global_avg_pool"),
            At("aspp.conv_bn_relu"),
            "one branch of the pyramid against the pyramid",
        ),
        Never(
            At("backbone.stage_list.2"),
            At("backbone.groups.3"),
            "equal H×W, but the teacher's backbone goes on after it",
        ),
    ),
)

_DEEPLAB_EXPORTED = Case(
    name="an exported DeepLab teaches one that trains with an auxiliary head, at any size",
    family="DeepLab",
    teacher=Net(make=lambda: DeepLab(DilatedResNet(), width=16), inputs=_ANY_IMAGE),
    student=Net(
        make=lambda: DeepLab(DilatedMobileNet(), width=16, aux="fcn"),
        inputs=_ANY_IMAGE,
        mode="train",
    ),
    expected=_deeplab_pairs(),
    never=(
        Never(At("decoder.conv"), At("aux_head"), "the main head against an auxiliary one"),
        Never(
            At("aspp.conv_bn_relu"),
            At("decoder.conv_bn_relu3"),
            "equal channels, but before the decoder against its end",
        ),
    ),
)

CASES: tuple[Case, ...] = (
    _FPN,
    _FPN_MOBILE,
    _PAN,
    _PAN_MOBILE,
    _UNET,
    _UNET_DEPTH,
    _DEEPLAB,
    _DEEPLAB_EXPORTED,
)
