"""Pairs of published classifiers and face embeddings, judged from the networks alone."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.published_mobile import (
    MobileOne,
    PPHGNet,
    PPLCNetV2,
    RepVGG,
    TwoLabels,
)
from tests.matching.families.published_split import DPN, MixNet, ResNeSt, ReXNet, Xception
from tests.matching.families.published_two_ended import IResNet, MobileFaceNet
from tests.matching.families.residual import BasicBlock, ResNetVD

__all__ = ["CASES"]

_IMAGE = ((3, 64, 64),)
_ANY_IMAGE = ((3, -1, -1),)

_SCORES = "class scores first: with one recipe they gain more than any feature"
_POOLED = "what the classifier reads is the next most common choice"
_CLOSED = "last block at 1/32; some take the convolution that closes the stage"
_GOES_ON = "the stage goes on after it"


def _stages(*ends: tuple[str, str, str]) -> tuple[Expected, ...]:
    return tuple(
        Expected("stage", At(teacher), At(student), f"last block of each at {where}")
        for teacher, student, where in ends
    )


def _logits(teacher: Place, student: Place) -> Expected:
    return Expected("logits", teacher, student, _SCORES)


def _embedding(teacher: Place, student: Place) -> Expected:
    return Expected("embedding", teacher, student, _POOLED)


_HG = Case(
    name="PP-HGNet teaches PP-LCNetV2, at any size",
    family="published: PP-HGNet, PP-LCNet",
    teacher=Net(make=PPHGNet, inputs=_ANY_IMAGE),
    student=Net(make=PPLCNetV2, inputs=_ANY_IMAGE),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(At("flatten"), At("flatten")),
        *_stages(
            ("stages.3", "stages.3", "1/32"),
            ("stages.2", "stages.2", "1/16"),
            ("stages.1", "stages.1", "1/8"),
            ("stages.0", "stages.0", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.2.1"), At("stages.2"), _GOES_ON),
        Never(At("stages.2.0"), At("stages.2"), "the teacher's stage only begins there"),
        Never(At("stages.2"), At("stages.2.1"), _GOES_ON),
        Never(At("stages.3.1", "concat", 0), At("stages.3"), "inside the block, before the mixing"),
        Never(At("stem"), At("stem"), "stem and highest resolution are not used"),
    ),
)

_REP = Case(
    name="RepVGG teaches MobileOne, both with the branches they train with",
    family="published: RepVGG, MobileOne",
    teacher=Net(make=RepVGG, inputs=_IMAGE, mode="train"),
    student=Net(make=MobileOne, inputs=_IMAGE, mode="train"),
    expected=(
        _logits(At("linear"), At("linear")),
        _embedding(At("trunk"), At("trunk")),
        *_stages(
            ("trunk.stage4", "trunk.stage4", "1/32"),
            ("trunk.stage3", "trunk.stage3", "1/16"),
            ("trunk.stage2", "trunk.stage2", "1/8"),
            ("trunk.stage1", "trunk.stage1", "1/4"),
        ),
    ),
    never=(
        Never(At("trunk.stage4.0.rbr_dense"), At("trunk.stage4"), "one branch, not the sum"),
        Never(At("trunk.stage3.2"), At("trunk.stage3"), "three blocks of the stage follow"),
        Never(At("trunk.stage3"), At("trunk.stage3.2"), _GOES_ON),
        Never(At("trunk.stage3"), At("trunk.stage3.3.0"), "half a block: only the depthwise part"),
        Never(At("trunk.stage0"), At("trunk.stage0"), "the first block is the stem"),
    ),
)

_SPLIT_ATTENTION = Case(
    name="ResNeSt teaches ResNet-vd of basic blocks",
    family="published: ResNeSt",
    teacher=Net(make=ResNeSt, inputs=_IMAGE),
    student=Net(make=lambda: ResNetVD(BasicBlock, (2, 2, 2, 2)), inputs=_IMAGE),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(At("flatten"), At("flatten")),
        *_stages(
            ("layer4", "blocks.7", "1/32"),
            ("layer3", "blocks.5", "1/16"),
            ("layer2", "blocks.3", "1/8"),
            ("layer1", "blocks.1", "1/4"),
        ),
    ),
    never=(
        Never(At("layer3.1"), At("blocks.5"), _GOES_ON),
        Never(At("layer3"), At("blocks.4"), _GOES_ON),
        Never(At("layer4.1.conv2"), At("blocks.7"), "the attention inside the last block"),
        Never(At("layer3.0.conv2", "add", -1), At("blocks.3"), "equal H×W, but inside a block"),
        Never(At("maxpool"), At("max_pool"), "stems are not used"),
    ),
)

_XCEPTION = Case(
    name="Xception with a long middle flow teaches ReXNet, at any size",
    family="published: Xception, ReXNet",
    teacher=Net(make=Xception, inputs=_ANY_IMAGE),
    student=Net(make=ReXNet, inputs=_ANY_IMAGE),
    expected=(
        _logits(At("fc"), (At("output"), At("", "flatten", -1))),
        _embedding(At("pool"), At("pool")),
        Expected(
            "stage",
            (At("exit"), At("sep2"), At("", "relu", -1)),
            (At("blocks.11"), At("last")),
            _CLOSED,
        ),
        *_stages(
            ("middle.7", "blocks.8", "1/16"),
            ("entry.1", "blocks.4", "1/8"),
            ("entry.0", "blocks.2", "1/4"),
        ),
    ),
    never=(
        Never(At("entry.2"), At("blocks.8"), "eight blocks follow at 1/16"),
        Never(At("middle.3"), At("blocks.8"), "the middle of the middle flow"),
        Never(At("middle.7"), At("blocks.5"), "three blocks of the student follow at 1/16"),
        Never(At("middle.7"), At("blocks.11"), "1/16 against 1/32"),
        Never(At("conv2"), At("blocks.0"), "the highest resolution is not used"),
        Never(At("conv2"), At("stem"), "stems are not used"),
    ),
)


def _both_paths(stage: int, blocks: int) -> tuple[At, ...]:
    """Return the joined paths of a stage, and each alone: the sum and the concatenation."""
    joined = At(f"stages.{stage + 1}.0", "concat", 0) if stage < 3 else At("", "concat", -1)
    last = f"stages.{stage}.{blocks - 1}"
    return (joined, At(last, "add", -1), At(last, "concat", -1))


_DUAL = Case(
    name="a dual path network teaches MixNet that trains",
    family="published: DPN, MixNet",
    teacher=Net(make=DPN, inputs=_IMAGE),
    student=Net(make=MixNet, inputs=_IMAGE, mode="train"),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(At("pool"), At("flatten")),
        Expected("stage", _both_paths(3, 2), (At("blocks.9"), At("head_conv")), _CLOSED),
        Expected("stage", _both_paths(2, 4), At("blocks.7"), "last at 1/16: both paths joined"),
        Expected("stage", _both_paths(1, 2), At("blocks.3"), "last at 1/8: both paths joined"),
        Expected("stage", _both_paths(0, 2), At("blocks.1"), "last at 1/4: both paths joined"),
    ),
    never=(
        Never(At("stages.2.1", "concat", 0), At("blocks.7"), "three blocks of the stage follow"),
        Never(_both_paths(2, 4), At("blocks.5"), "two widths at 1/16: the stage goes on"),
        Never(At("stages.2.3.conv3"), At("blocks.7"), "what the last block adds, not the stream"),
        Never(_both_paths(2, 4), At("blocks.9"), "1/16 against 1/32"),
        Never(At("conv1"), At("stem"), "stems are not used"),
    ),
)

_LABELS = Case(
    name="RepVGG with two labels teaches MobileOne with both, at any size",
    family="published: two labels",
    teacher=Net(
        make=lambda: TwoLabels("RepVGG", (8, 8, 16, 24, 48), (2, 3, 4, 1)), inputs=_ANY_IMAGE
    ),
    student=Net(
        make=lambda: TwoLabels("MobileOne", (6, 6, 12, 20, 32), (1, 2, 2, 1)), inputs=_ANY_IMAGE
    ),
    expected=(
        Expected("logits", At("colour"), At("colour"), "scores of the first label"),
        Expected("logits", At("make"), At("make"), "scores of the second label, equal in number"),
        _embedding(At("trunk"), At("trunk")),
        *_stages(
            ("trunk.stage4", "trunk.stage4", "1/32"),
            ("trunk.stage3", "trunk.stage3", "1/16"),
            ("trunk.stage2", "trunk.stage2", "1/8"),
            ("trunk.stage1", "trunk.stage1", "1/4"),
        ),
    ),
    never=(
        Never(At("colour"), At("make"), "equal shape, but one label against the other"),
        Never(At("make"), At("colour"), "equal shape, but one label against the other"),
        Never(At("trunk.stage3"), At("trunk.stage4"), "1/16 against 1/32"),
        Never(At("trunk.stage0"), At("trunk.stage0"), "the first block is the stem"),
    ),
    lead=2,
)

_UNIT = (At("features"), At("", "divide", -1))

_FACES = Case(
    name="ArcFace's residual network teaches MobileFaceNet, no classifier in either",
    family="published: ArcFace",
    teacher=Net(make=lambda: IResNet((2, 2, 4, 2)), inputs=_IMAGE),
    student=Net(make=MobileFaceNet, inputs=_IMAGE),
    expected=(
        Expected("embedding", _UNIT, _UNIT, "the embedding itself, unit vector or not yet"),
        Expected(
            "stage",
            At("layer4"),
            (At("stage3"), At("conv_6_sep")),
            "last block at 1/16; some take the 1×1 convolution that closes the stage",
        ),
        *_stages(("layer3", "stage2", "1/8"), ("layer2", "stage1", "1/4")),
    ),
    never=(
        Never(At("layer3"), At("stage3"), "equal number, but 1/8 against 1/16"),
        Never(At("layer1"), At("stage1"), "equal number, but 1/2 against 1/4"),
        Never(At("layer3.1"), At("stage2"), _GOES_ON),
        Never(At("layer3"), At("stage2.1"), _GOES_ON),
        Never(At("conv1"), At("conv1"), "stems are not used"),
        Never(At("layer1"), At("conv1"), "a stage against the stem"),
    ),
)

CASES: tuple[Case, ...] = (_HG, _REP, _SPLIT_ATTENTION, _XCEPTION, _DUAL, _LABELS, _FACES)
