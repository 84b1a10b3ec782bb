"""Pairs of published vision transformers, VAN, and a recogniser with two heads."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never
from tests.matching.families.experts.published_layers import attention, hidden
from tests.matching.families.patches import SwinTransformer, VisionTransformer
from tests.matching.families.published_mobile import RepVGG
from tests.matching.families.published_patches import PVT, TNT, VAN, LeViT
from tests.matching.families.published_two_ended import TwoReadings

__all__ = ["CASES"]

_IMAGE = ((3, 64, 64),)
_LINE = ((3, 32, 64), ("label", (8,), "int64"))

_SCORES = "class scores first"
_POOLED = "what the classifier reads is the next most common choice"
_BRANCH = "a branch, not the stream"

_PVT_STAGES = tuple(
    Expected(
        "stage",
        (At(f"stages.{stage}"), At(f"grids.{stage}")) if stage < 3 else At("stages.3"),
        At(f"layers.{stage}.blocks.{0 if stage == 3 else 1}"),
        f"last block of each at 1/{4 * 2**stage}, as tokens or as a map",
    )
    for stage in (3, 2, 1, 0)
)

_PYRAMID = Case(
    name="PVT teaches Swin",
    family="published: PVT",
    teacher=Net(make=lambda: PVT((2, 2, 3, 2)), inputs=_IMAGE),
    student=Net(make=lambda: SwinTransformer((2, 2, 2, 1)), inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "slice", -1), At("avgpool"), "class token and pooled tokens"),
        *_PVT_STAGES,
    ),
    never=(
        Never(At("stages.2.blocks.0"), At("layers.2.blocks.1"), "two blocks of the stage follow"),
        Never(At("stages.2"), At("layers.2.blocks.0"), "the student's stage goes on after it"),
        Never(At("stages.1.blocks.1.mlp"), At("layers.1.blocks.1.mlp"), _BRANCH),
        Never(At("stages.2"), At("layers.1.downsample"), "the student's stage only begins there"),
        Never(At("stages.0.patch_embed"), At("patch_norm"), "stems are not used"),
    ),
    most=10,
)

_LEVIT = Case(
    name="LeViT teaches a narrow one of half its depth",
    family="published: LeViT",
    teacher=Net(make=lambda: LeViT((16, 24, 32), (2, 4, 4)), inputs=((3, 128, 128),)),
    student=Net(make=lambda: LeViT((8, 16, 24), (1, 2, 2)), inputs=((3, 128, 128),)),
    expected=(
        Expected(
            "logits",
            (At("", "scale", -1), At("", "add", -1), At("head")),
            (At("", "scale", -1), At("", "add", -1), At("head")),
            "the mean of both heads, or the first of them",
        ),
        Expected("embedding", At("", "mean", -1), At("", "mean", -1), _POOLED),
        *(
            Expected(
                "stage",
                At(f"stages.{stage}"),
                At(f"stages.{stage}"),
                f"last block of each at 1/{16 * 2**stage}",
            )
            for stage in (2, 1, 0)
        ),
    ),
    never=(
        Never(At("shrinks.0"), At("stages.1"), "the teacher's stage only begins there"),
        Never(At("stages.1.1"), At("stages.1"), "half of the teacher's stage against the end"),
        Never(At("stages.2.3.mlp.down"), At("stages.2.1.mlp.down"), _BRANCH),
        Never(At("head"), At("head_dist"), "one head against the other"),
        Never(At("head_dist"), At("head"), "one head against the other"),
        Never(At("patch_embed.3"), At("stages.0"), "the stem against a stage"),
    ),
)

_NESTED = Case(
    name="TNT teaches a ViT of half its depth",
    family="published: TNT",
    teacher=Net(make=lambda: TNT(6, 8, 16), inputs=((3, 32, 32),)),
    student=Net(make=lambda: VisionTransformer(3, 16, 2), inputs=((3, 32, 32),)),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "slice", -1), At("", "slice", -1), "the class token"),
        *hidden(("blocks", 6), ("blocks", 3), (At("pos_drop"), At("pos_drop"))),
        *attention(
            ("blocks", 6, (At("attn_out", "scale", -1),)), ("blocks", 3, (At("attn", "scale", -1),))
        ),
    ),
    never=(
        Never(At("blocks.2"), At("blocks.2"), "equal shape, but 3 of 6 against 3 of 3"),
        Never(At("blocks.0"), At("blocks.0"), "equal shape, but 1 of 6 against 1 of 3"),
        Never(At("blocks.5", nth=0), At("blocks.2"), "pixels of each patch against patches"),
        Never(
            At("blocks.5.attn_in", "scale", -1),
            At("blocks.2.attn", "scale", -1),
            "attention among the pixels of a patch against that among patches",
        ),
        Never(At("blocks.5.mlp"), At("blocks.2.mlp"), _BRANCH),
    ),
    most=10,
)

_VAN = Case(
    name="VAN teaches RepVGG in training form",
    family="published: VAN",
    teacher=Net(make=VAN, inputs=_IMAGE),
    student=Net(make=lambda: RepVGG((2, 2, 4, 1)), inputs=_IMAGE, mode="train"),
    expected=(
        Expected("logits", At("head"), At("linear"), _SCORES),
        Expected("embedding", At("", "mean", -1), At("trunk"), _POOLED),
        Expected(
            "stage",
            (At("stages.3"), At("norms.3")),
            At("trunk.stage4"),
            "last block of each at 1/32, before or after the norm of the stage",
        ),
        *(
            Expected(
                "stage",
                (At(f"stages.{stage}"), At(f"norms.{stage}"), At("", "transpose", 2 * stage + 1)),
                At(f"trunk.stage{stage + 1}"),
                f"last block of each at 1/{4 * 2**stage}, before or after the norm of the stage",
            )
            for stage in (2, 1, 0)
        ),
    ),
    never=(
        Never(At("stages.2.0"), At("trunk.stage3"), "two blocks of the teacher's stage follow"),
        Never(At("embeds.2"), At("trunk.stage3"), "the teacher's stage only begins there"),
        Never(At("stages.3.1.attn"), At("trunk.stage4"), "the attention, not the stream"),
        Never(At("stages.2"), At("trunk.stage3.1"), "the student's stage goes on after it"),
        Never(At("stages.3"), At("trunk.stage3"), "equal number, but 1/32 against 1/16"),
    ),
)


_READINGS = Case(
    name="a recogniser with a CTC and an NRTR head teaches a narrow one with both",
    family="published: two heads of a recogniser",
    teacher=Net(
        make=lambda: TwoReadings((8, 16, 24, 32), 2, dim=16, mixing=2, layers=2),
        inputs=_LINE,
        mode="train",
    ),
    student=Net(
        make=lambda: TwoReadings((8, 8, 12, 16), 1, dim=12, mixing=1, layers=1),
        inputs=_LINE,
        mode="train",
    ),
    expected=(
        Expected("logits", At("ctc_head"), At("ctc_head"), "CTC scores of each step first"),
        Expected(
            "logits", At("gtc_head"), At("gtc_head"), "scores of each symbol from the second head"
        ),
        Expected(
            "feature",
            (At("neck_out"), At("steps"), At("steps", "mean", -1)),
            (At("neck_out"), At("steps"), At("steps", "mean", -1)),
            "neck out: what the CTC head reads",
        ),
        Expected(
            "feature",
            (At("block_list"), At("pool")),
            (At("block_list"), At("pool")),
            "backbone out: its last block, or the pooled map that both necks read",
        ),
    ),
    never=(
        Never(At("ctc_head"), At("gtc_head"), "steps of the line against symbols of the text"),
        Never(At("gtc_head"), At("ctc_head"), "symbols of the text against steps of the line"),
        Never(At("mixing.1"), At("gtc_head.decoder"), "image against text"),
        Never(At("gtc_head.decoder"), At("mixing"), "text against image"),
        Never(At("neck_up"), At("pool"), "equal H×W, but inside the neck against the backbone"),
        Never(At("conv1"), At("conv1"), "stems are not used"),
    ),
    lead=2,
)

CASES: tuple[Case, ...] = (_PYRAMID, _LEVIT, _NESTED, _VAN, _READINGS)
