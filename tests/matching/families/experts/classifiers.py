"""Pairs of convolutional classifiers."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never
from tests.matching.families.mobile import EfficientNet, LCNet, MobileNetV2, ShuffleNetV2
from tests.matching.families.patches import ConvNeXt
from tests.matching.families.plain import VGG, CoarseNet, DenseNet, GoogLeNet, SqueezeNet
from tests.matching.families.residual import (
    BasicBlock,
    BottleneckBlock,
    CifarResNet,
    RegNet,
    ReidResNet,
    ResNetVD,
    WideResNet,
)

__all__ = ["CASES"]

_IMAGE = ((3, 64, 64),)
_ANY_IMAGE = ((3, -1, -1),)
_SMALL = ((3, 32, 32),)

_SCORES = "class scores first: with one recipe they gain more than any feature"
_POOLED = "the input of the classifier is the next most common choice"


def _stages(*ends: tuple[str, str, str]) -> tuple[Expected, ...]:
    return tuple(
        Expected("stage", At(teacher), At(student), f"last block of each at {where}")
        for teacher, student, where in ends
    )


_BOTTLENECKS = Net(make=lambda: ResNetVD(BottleneckBlock, (2, 2, 3, 2), width=4), inputs=_ANY_IMAGE)
_LITTLE_BOTTLENECKS = Net(
    make=lambda: ResNetVD(BottleneckBlock, (1, 2, 2, 1), width=4), inputs=_IMAGE
)

_RESNET = Case(
    name="a deep residual network teaches a shallow one",
    family="residual",
    teacher=Net(make=lambda: ResNetVD(BottleneckBlock, (2, 2, 3, 2), width=4), inputs=_IMAGE),
    student=Net(make=lambda: ResNetVD(BasicBlock, (1, 1, 1, 1), width=16), inputs=_IMAGE),
    expected=(
        Expected("logits", At("fc"), At("fc"), _SCORES),
        Expected("embedding", At("flatten"), At("flatten"), _POOLED),
        *_stages(
            ("blocks.8", "blocks.3", "1/32"),
            ("blocks.6", "blocks.2", "1/16"),
            ("blocks.3", "blocks.1", "1/8"),
            ("blocks.1", "blocks.0", "1/4"),
        ),
    ),
    never=(
        Never(At("blocks.7"), At("blocks.3"), "equal shape, but the stage goes on after it"),
        Never(At("blocks.4"), At("blocks.2"), "equal shape, but the stage goes on after it"),
        Never(At("blocks.3"), At("blocks.2"), "the ends of different stages"),
        Never(At("stem.2"), At("stem.2"), "stems are not used"),
    ),
)

_VD_TO_INVERTED = Case(
    name="residual teaches inverted residual at any size",
    family="inverted residual",
    teacher=_BOTTLENECKS,
    student=Net(
        make=lambda: MobileNetV2(
            ((8, 1, 1), (12, 2, 2), (16, 3, 2), (24, 2, 2), (28, 2, 1), (32, 2, 2), (40, 1, 1))
        ),
        inputs=_ANY_IMAGE,
    ),
    expected=(
        Expected("logits", At("fc"), At("out"), _SCORES),
        Expected("embedding", At("flatten"), At("", "flatten"), _POOLED),
        Expected(
            "stage",
            At("blocks.8"),
            (At("groups.6"), At("conv9")),
            "last block at 1/32; some take the 1×1 convolution that closes the stage",
        ),
        *_stages(
            ("blocks.6", "groups.4", "1/16, where the student has two groups of one resolution"),
            ("blocks.3", "groups.2", "1/8"),
            ("blocks.1", "groups.1", "1/4"),
        ),
    ),
    never=(
        Never(At("blocks.6"), At("groups.3"), "the resolution goes on for another group"),
        Never(At("stem.2"), At("groups.0"), "stem and highest resolution are not used"),
        Never(At("blocks.6"), At("groups.6"), "1/16 against 1/32"),
    ),
)

_REGNET_TO_LCNET = Case(
    name="grouped residual teaches depthwise-separable",
    family="depthwise-separable",
    teacher=Net(make=RegNet, inputs=_IMAGE),
    student=Net(make=LCNet, inputs=_IMAGE),
    expected=(
        Expected("logits", At("fc"), At("fc"), _SCORES),
        Expected(
            "embedding",
            At("", "flatten"),
            At("flatten"),
            "the input of the classifier, in the student behind a convolution of the pooled map",
        ),
        *_stages(
            ("s4", "blocks6", "1/32"),
            ("s3", "blocks5", "1/16"),
            ("s2", "blocks4", "1/8"),
            ("s1", "blocks3", "1/4"),
        ),
    ),
    never=(
        Never(At("stem"), At("blocks2"), "stem and highest resolution are not used"),
        Never(At("s4"), At("blocks5"), "1/32 against 1/16"),
        Never(At("s1"), At("blocks2"), "1/4 against 1/2"),
    ),
)

_DENSE_TO_FIRE = Case(
    name="dense teaches squeeze",
    family="dense, squeeze",
    teacher=Net(make=lambda: DenseNet((2, 3, 2)), inputs=_IMAGE),
    student=Net(make=SqueezeNet, inputs=_IMAGE),
    expected=(
        Expected(
            "logits", At("fc"), At("_avg_pool"), "class scores; the student's are pooled at the end"
        ),
        *_stages(
            ("dense_blocks.2", "_fire7", "1/16"),
            ("dense_blocks.1", "_fire4", "1/8"),
            ("dense_blocks.0", "_fire2", "1/4"),
        ),
    ),
    never=(
        Never(At("transitions.0"), At("_fire2"), "a transition already has the next resolution"),
        Never(At("dense_blocks.1"), At("_fire2"), "1/8 against 1/4"),
        Never(At("dense_blocks.2"), At("_conv9"), "a map against scores of places"),
    ),
)

_INCEPTION_TO_SHUFFLE = Case(
    name="Inception with auxiliary heads teaches shuffle",
    family="Inception, shuffle",
    teacher=Net(make=GoogLeNet, inputs=_IMAGE),
    student=Net(make=ShuffleNetV2, inputs=_IMAGE),
    expected=(
        Expected("logits", At("fc_out"), At("fc"), _SCORES),
        Expected("embedding", At("", "squeeze"), At("", "flatten", -1), _POOLED),
        Expected(
            "stage",
            At("ince5b"),
            (At("stages.2"), At("last_conv")),
            "last block at 1/32; some take the 1×1 convolution that closes the stage",
        ),
        *_stages(("ince4c", "stages.1", "1/16"), ("ince3b", "stages.0", "1/8")),
    ),
    never=(
        Never(At("aux1"), At("fc"), "an auxiliary head against the scores themselves"),
        Never(At("aux2"), At("fc"), "an auxiliary head against the scores themselves"),
        Never(At("ince4a"), At("stages.1"), "the stage goes on after it"),
        Never(At("ince4c"), At("stages.0"), "1/16 against 1/8"),
    ),
)

_VGG = Case(
    name="a deep VGG teaches a shallow one",
    family="VGG",
    teacher=Net(make=lambda: VGG((8, 12, 16, 24, 24), (2, 2, 3, 3, 3), side=64), inputs=_IMAGE),
    student=Net(make=lambda: VGG((8, 12, 16, 24, 24), (1, 1, 1, 1, 1), side=64), inputs=_IMAGE),
    expected=(
        Expected("logits", At("classifier.6"), At("classifier.6"), _SCORES),
        Expected("embedding", At("classifier.5"), At("classifier.5"), _POOLED),
        *_stages(
            ("features.29", "features.13", "1/16"),
            ("features.22", "features.10", "1/8"),
            ("features.15", "features.7", "1/4"),
            ("features.8", "features.4", "1/2"),
        ),
    ),
    never=(
        Never(At("features.18"), At("features.10"), "equal shape, but the stage goes on after it"),
        Never(At("features.3"), At("features.1"), "the highest resolution is not used"),
        Never(
            At("features.23"), At("features.13"), "equal shape, but it only ends the stage before"
        ),
    ),
)

_CONVNEXT_TO_EFFICIENTNET = Case(
    name="ConvNeXt teaches an EfficientNet that trains, at any size",
    family="ConvNeXt, EfficientNet",
    teacher=Net(make=ConvNeXt, inputs=_ANY_IMAGE),
    student=Net(make=EfficientNet, inputs=_ANY_IMAGE, mode="train"),
    expected=(
        Expected("logits", At("head"), At("fc"), _SCORES),
        Expected("embedding", At("norm"), At("", "squeeze", -1), _POOLED),
        Expected(
            "stage",
            At("stages.3"),
            (At("blocks.11"), At("conv_head")),
            "last block at 1/32; some take the 1×1 convolution that closes the stage",
        ),
        *_stages(
            ("stages.2", "blocks.8", "1/16, where the student has two groups of one resolution"),
            ("stages.1", "blocks.4", "1/8"),
            ("stages.0", "blocks.2", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.2"), At("blocks.6"), "the resolution goes on for another group"),
        Never(At("downsample_layers.1"), At("blocks.4"), "the teacher's stage only begins there"),
        Never(At("stages.0"), At("blocks.0"), "1/4 against the student's highest resolution"),
    ),
)

_NO_QUARTER = Case(
    name="the student has no map at 1/4",
    family="missing stage",
    teacher=_LITTLE_BOTTLENECKS,
    student=Net(make=lambda: CoarseNet(((8, 1, 4), (16, 2, 2), (24, 2, 2))), inputs=_IMAGE),
    expected=(
        Expected("logits", At("fc"), At("head"), _SCORES),
        Expected("embedding", At("flatten"), At("", "mean"), _POOLED),
        *_stages(
            ("blocks.5", "body.2", "1/32"),
            ("blocks.4", "body.1", "1/16"),
            ("blocks.2", "body.0", "1/8"),
        ),
    ),
    never=(
        Never(At("blocks.0"), At("body.0"), "1/4 against 1/8: that stage has no partner"),
        Never(At("blocks.2"), At("body.1"), "1/8 against 1/16"),
        Never(At("blocks.0"), At("stem"), "a stage against the stem"),
    ),
)

_NO_SIXTEENTH = Case(
    name="the student has no map at 1/16",
    family="missing stage",
    teacher=_LITTLE_BOTTLENECKS,
    student=Net(make=lambda: CoarseNet(((8, 2, 2), (12, 2, 2), (24, 2, 4))), inputs=_IMAGE),
    expected=(
        Expected("logits", At("fc"), At("head"), _SCORES),
        Expected("embedding", At("flatten"), At("", "mean"), _POOLED),
        *_stages(
            ("blocks.5", "body.2", "1/32"),
            ("blocks.2", "body.1", "1/8"),
            ("blocks.0", "body.0", "1/4"),
        ),
    ),
    never=(
        Never(At("blocks.4"), At("body.1"), "1/16 against 1/8: that stage has no partner"),
        Never(At("blocks.4"), At("body.2"), "1/16 against 1/32: that stage has no partner"),
    ),
)

_NECK = Case(
    name="an embedding network with a BN neck teaches another",
    family="BN neck",
    teacher=Net(make=lambda: ReidResNet(BottleneckBlock, (1, 2, 2, 1)), inputs=_IMAGE),
    student=Net(make=lambda: ReidResNet(BasicBlock, (1, 1, 1, 1), width=8), inputs=_IMAGE),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), _SCORES),
        Expected(
            "embedding",
            At("bottleneck"),
            At("bottleneck"),
            "what the network is trained for, before or after its normalisation",
        ),
        *_stages(
            ("stages.3", "stages.3", "1/32"),
            ("stages.2", "stages.2", "1/16"),
            ("stages.1", "stages.1", "1/8"),
            ("stages.0", "stages.0", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.1.0"), At("stages.1"), "the teacher's stage goes on after it"),
        Never(At("conv"), At("conv"), "stems are not used"),
    ),
)

_CIFAR_PRE_POST = Case(
    name="pre-activation teaches post-activation on 32×32",
    family="small inputs",
    teacher=Net(make=lambda: WideResNet(2), inputs=_SMALL),
    student=Net(make=lambda: CifarResNet(1), inputs=_SMALL),
    expected=(
        Expected("logits", At("fc"), At("fc"), _SCORES),
        Expected("embedding", At("", "reshape"), At("", "flatten"), _POOLED),
        *_stages(
            ("block3", "layer3", "8×8"),
            ("block2", "layer2", "16×16"),
            ("block1", "layer1", "32×32"),
        ),
    ),
    never=(
        Never(At("block2"), At("layer3"), "the ends of different stages"),
        Never(At("block1"), At("layer2"), "the ends of different stages"),
        Never(At("conv"), At("conv1"), "stems are not used"),
    ),
)

_CIFAR_BY_INDEX = Case(
    name="residual teaches shuffle on 32×32, by the number of the stage",
    family="small inputs",
    teacher=Net(make=lambda: CifarResNet(3), inputs=_SMALL),
    student=Net(make=lambda: ShuffleNetV2(stem="small"), inputs=_SMALL),
    expected=(
        Expected("logits", At("fc"), At("fc"), _SCORES),
        Expected("embedding", At("", "flatten"), At("", "flatten", -1), _POOLED),
        Expected(
            "stage",
            At("layer3"),
            (At("stages.2"), At("last_conv")),
            "third and last stage of both: 8×8 pooled to the student's 4×4",
        ),
        Expected("stage", At("layer2"), At("stages.1"), "second of three: 16×16 against 8×8"),
        Expected("stage", At("layer1"), At("stages.0"), "first of three: 32×32 against 16×16"),
    ),
    never=(
        Never(At("layer2"), At("stages.0"), "equal H×W, but second against first of three"),
        Never(At("layer3"), At("stages.1"), "equal H×W, but third against second of three"),
        Never(At("layer1"), At("conv1"), "equal H×W, but a stage against the stem"),
    ),
)

CASES: tuple[Case, ...] = (
    _RESNET,
    _VD_TO_INVERTED,
    _REGNET_TO_LCNET,
    _DENSE_TO_FIRE,
    _INCEPTION_TO_SHUFFLE,
    _VGG,
    _CONVNEXT_TO_EFFICIENTNET,
    _NO_QUARTER,
    _NO_SIXTEENTH,
    _NECK,
    _CIFAR_PRE_POST,
    _CIFAR_BY_INDEX,
)
