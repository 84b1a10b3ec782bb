"""Pairs of classifiers that no rule was written for: judged once, from the networks alone."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.residual import CifarResNet, WideResNet
from tests.matching.families.wild_mixers import DeiT, MobileViT, PoolFormer
from tests.matching.families.wild_residual import GhostNet, Res2Net, SEResNet, ShuffleNetV1
from tests.matching.families.wild_trees import DLA, CSPNet, DarkNet19, InceptionResNet

__all__ = ["CASES"]

_IMAGE = ((3, 64, 64),)
_LARGE = ((3, 96, 96),)
_SMALL = ((3, 32, 32),)
_ANY_IMAGE = ((3, -1, -1),)

_SCORES = "class scores first: with one recipe they gain more than any feature"
_POOLED = "what the classifier reads is the next most common choice"
_CLOSED = "last block at 1/32; some take the 1×1 convolution that closes the stage"


def _stages(*ends: tuple[str, str, str]) -> tuple[Expected, ...]:
    return tuple(
        Expected("stage", At(teacher), At(student), f"last block of each at {where}")
        for teacher, student, where in ends
    )


def _logits(teacher: Place, student: Place) -> Expected:
    return Expected("logits", teacher, student, _SCORES)


def _embedding(teacher: Place, student: Place) -> Expected:
    return Expected("embedding", teacher, student, _POOLED)


_RES2NET = Net(make=Res2Net, inputs=_IMAGE)
_SERESNET = Net(make=lambda: SEResNet((2, 2, 3, 2)), inputs=_IMAGE)
_FLAT = At("", "flatten")

_GHOST = Case(
    name="hierarchical bottlenecks teach ghost modules that train",
    family="wild: Res2Net, GhostNet",
    teacher=_RES2NET,
    student=Net(make=GhostNet, inputs=_IMAGE, mode="train"),
    expected=(
        _logits(At("fc"), At("classifier")),
        _embedding(At("flatten"), _FLAT),
        Expected("stage", At("layer4"), (At("blocks.9"), At("conv_last")), _CLOSED),
        *_stages(
            ("layer3", "blocks.7", "1/16, where the student has two widths"),
            ("layer2", "blocks.4", "1/8"),
            ("layer1", "blocks.2", "1/4"),
        ),
    ),
    never=(
        Never(At("layer3"), At("blocks.6"), "the resolution goes on for another block"),
        Never(At("layer2"), At("blocks.3"), "the resolution goes on for another block"),
        Never(At("layer1"), At("blocks.0"), "1/4 against the student's highest resolution"),
        Never(At("layer4", "concat", -1), At("blocks.9"), "inside the block: the parts rejoined"),
    ),
)

_CROSS_STAGE = Case(
    name="cross-stage partial teaches plain convolutions with a convolutional classifier",
    family="wild: CSPNet, DarkNet",
    teacher=Net(make=CSPNet, inputs=_IMAGE),
    student=Net(make=DarkNet19, inputs=_IMAGE),
    expected=(
        _logits(At("fc"), At("flatten")),
        *_stages(
            ("stages.4", "stages.5", "1/32"),
            ("stages.3", "stages.4", "1/16"),
            ("stages.2", "stages.3", "1/8"),
            ("stages.1", "stages.2", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.4"), At("classifier"), "a map against scores of places"),
        Never(At("stages.4"), At("pool", nth=4), "equal H×W, but it only ends the stage before"),
        Never(At("stages.3.blocks"), At("stages.4"), "half of the channels, not yet rejoined"),
        Never(At("stages.3"), At("stages.3"), "equal number, 1/16 against 1/8"),
        Never(At("stem"), At("stages.0"), "stem and highest resolution are not used"),
    ),
)

_SIZES = Case(
    name="a residual Inception at 96×96 teaches deep aggregation at 64×64",
    family="wild: Inception-ResNet, DLA",
    teacher=Net(make=InceptionResNet, inputs=_LARGE),
    student=Net(make=DLA, inputs=_IMAGE),
    expected=(
        _logits(At("last_linear"), _FLAT),
        _embedding(At("", "squeeze"), At("avgpool")),
        Expected("stage", (At("repeat_2"), At("conv2d_7b")), At("level5"), _CLOSED),
        *_stages(
            ("repeat_1", "level4", "1/16: 6×6 against 4×4"),
            ("repeat", "level3", "1/8: 12×12 against 8×8"),
        ),
    ),
    never=(
        Never(At("repeat"), At("level2"), "1/8 against 1/4: that level has no partner"),
        Never(At("stem"), At("level2"), "the stem against a level"),
        Never(At("mixed_6a"), At("level4"), "the teacher's stage only begins there"),
        Never(At("repeat_1"), At("level4.tree1"), "a branch of the tree, not its root"),
        Never(At("repeat_2"), At("level4"), "1/32 against 1/16"),
    ),
)

_HYBRID = Case(
    name="gated residual teaches convolutions with attention between",
    family="wild: SE-ResNeXt, MobileViT",
    teacher=_SERESNET,
    student=Net(make=MobileViT, inputs=_IMAGE, mode="train"),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(At("flatten"), At("", "flatten", -1)),
        Expected("stage", At("stages.3"), (At("stages.4"), At("final_conv")), _CLOSED),
        *_stages(
            ("stages.2", "stages.3", "1/16"),
            ("stages.1", "stages.2", "1/8"),
            ("stages.0", "stages.1", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.2"), At("stages.3.0"), "the stage goes on with its attention"),
        Never(At("stages.2"), At("stages.3.1.transformer"), "tokens inside the last block"),
        Never(At("stages.0"), At("stages.0"), "1/4 against the student's highest resolution"),
        Never(At("stages.3"), At("stages.3"), "equal number, 1/32 against 1/16"),
        Never(At("stages.3.1.se"), At("stages.4"), "a branch of the last block, before its sum"),
    ),
)

_POOLING = Case(
    name="a deep PoolFormer teaches a shallow one, at any size",
    family="wild: PoolFormer",
    teacher=Net(make=lambda: PoolFormer((2, 2, 6, 2), (8, 12, 16, 24)), inputs=_ANY_IMAGE),
    student=Net(make=lambda: PoolFormer((1, 1, 2, 1), (8, 12, 16, 24)), inputs=_ANY_IMAGE),
    expected=(
        _logits(At("head"), At("head")),
        _embedding(At("", "mean"), At("", "mean")),
        *_stages(
            ("stages.3", "stages.3", "1/32"),
            ("stages.2", "stages.2", "1/16"),
            ("stages.1", "stages.1", "1/8"),
            ("stages.0", "stages.0", "1/4"),
        ),
    ),
    never=(
        Never(At("stages.2.1"), At("stages.2"), "equal shape, but the stage goes on after it"),
        Never(At("embeds.2"), At("stages.2"), "equal shape, but the stage only begins there"),
        Never(At("embeds.0"), At("embeds.0"), "stems are not used"),
        Never(At("stages.2.5.fc2"), At("stages.2.1.fc2"), "a branch, not the stream"),
    ),
)

_HUNDRED_TEN = Case(
    name="a residual network of 110 layers teaches one of 20",
    family="wild: small inputs",
    teacher=Net(make=lambda: CifarResNet(18), inputs=_SMALL),
    student=Net(make=lambda: CifarResNet(3), inputs=_SMALL),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(_FLAT, _FLAT),
        *_stages(
            ("layer3", "layer3", "8×8"),
            ("layer2", "layer2", "16×16"),
            ("layer1", "layer1", "32×32"),
        ),
    ),
    never=(
        Never(At("layer3.2"), At("layer3"), "equal shape, but fifteen blocks follow in the stage"),
        Never(At("layer1.2"), At("layer1.2"), "equal shape and number, but early against last"),
        Never(At("conv1"), At("conv1"), "stems are not used"),
    ),
)

_WIDE_SHUFFLE = Case(
    name="pre-activation WRN-40-2 teaches grouped shuffle on 32×32, by the number of the stage",
    family="wild: small inputs",
    teacher=Net(make=lambda: WideResNet(6), inputs=_SMALL),
    student=Net(make=ShuffleNetV1, inputs=_SMALL),
    expected=(
        _logits(At("fc"), At("linear")),
        _embedding(At("", "reshape"), _FLAT),
        Expected("stage", At("block3"), At("layer3"), "third of three: 8×8 pooled to 4×4"),
        Expected("stage", At("block2"), At("layer2"), "second of three: 16×16 pooled to 8×8"),
        Expected("stage", At("block1"), At("layer1"), "first of three: 32×32 pooled to 16×16"),
    ),
    never=(
        Never(At("block2"), At("layer1"), "equal H×W, but second against first of three"),
        Never(At("block3"), At("layer2"), "equal H×W, but third against second of three"),
        Never(At("block1"), At("conv1"), "equal H×W, but a stage against the stem"),
        Never(At("block3"), At("layer3.0"), "the student's stage goes on after it"),
    ),
)

_SHORTER = Case(
    name="the student ends one stage earlier",
    family="wild: missing stage",
    teacher=_RES2NET,
    student=Net(make=lambda: SEResNet((1, 2, 1)), inputs=_IMAGE, mode="train"),
    expected=(
        _logits(At("fc"), At("fc")),
        _embedding(At("flatten"), At("flatten")),
        Expected(
            "stage",
            (At("layer3"), At("layer4")),
            At("stages.2"),
            "the student's last at 1/16, with the teacher's there or with its last",
        ),
        *_stages(("layer2", "stages.1", "1/8"), ("layer1", "stages.0", "1/4")),
    ),
    never=(
        Never(At("layer3"), At("stages.1"), "1/16 against 1/8, which the teacher has as well"),
        Never(At("layer2"), At("stages.0"), "1/8 against 1/4, which the teacher has as well"),
        Never(At("layer2"), At("stages.1.0"), "the student's stage goes on after it"),
        Never(At("layer4"), At("stages.1"), "the end of the one, the middle of the other"),
    ),
)

_DISTILLATION_TOKEN = Case(
    name="a convolutional network teaches DeiT: four stages against four depths",
    family="wild: CNN to ViT",
    teacher=_SERESNET,
    student=Net(make=lambda: DeiT(8, 16), inputs=_IMAGE, mode="train"),
    expected=(
        Expected(
            "logits",
            At("fc"),
            (At("head_dist"), At("head")),
            "DeiT's distillation head is there to learn the teacher's scores; some use both",
        ),
        Expected(
            "embedding",
            At("flatten"),
            (At("", "slice", -1), At("", "slice", -2)),
            "what the classifiers read: the pooled map, the distillation or the class token",
        ),
        *(
            Expected(
                "stage",
                At(f"stages.{stage}"),
                At(f"blocks.{2 * stage + 1}"),
                f"stage {stage + 1} of four against {stage + 1} of four equal parts of the student",
            )
            for stage in (3, 2, 1, 0)
        ),
    ),
    never=(
        Never(At("stages.2"), At("blocks.7"), "equal number of places, but 3 of 4 against the end"),
        Never(At("stages.3"), At("blocks.3"), "the last stage against half of the depth"),
        Never(At("stages.0"), At("patch_embed"), "a stage against the stem"),
    ),
)

CASES: tuple[Case, ...] = (
    _GHOST,
    _CROSS_STAGE,
    _SIZES,
    _HYBRID,
    _POOLING,
    _HUNDRED_TEN,
    _WIDE_SHUFFLE,
    _SHORTER,
    _DISTILLATION_TOKEN,
)
