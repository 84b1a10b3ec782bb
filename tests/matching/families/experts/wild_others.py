"""Pairs of text, image and sound networks that no rule was written for."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.wild_detectors import YOLOX, AggregatedBackbone, SeparableBackbone
from tests.matching.families.wild_language import (
    CLIP,
    GPT,
    DistilBert,
    LstmClassifier,
    Translator,
)
from tests.matching.families.wild_signals import (
    EDSR,
    DCGenerator,
    ResidualGenerator,
    WaveNet11,
    WaveResNet,
)
from tests.matching.families.wild_trees import HRNet

__all__ = ["CASES"]

_TEXT = (("input_ids", (12,), "int64"),)
_TRANSLATION = (("src", (-1,), "int64"), ("tgt", (-1,), "int64"))
_CAPTIONED = ((3, 32, 32), ("text", (8,), "int64"))

_SCORES = "class scores first"


def _hidden(layers: str, teacher: int, student: int, start: Place | None) -> tuple[Expected, ...]:
    """Return hidden state i·k against i, the last first; 0 is the embeddings."""
    every = teacher // student
    states = tuple(
        Expected(
            "hidden_state",
            At(f"{layers}.{index * every - 1}"),
            At(f"{layers}.{index - 1}"),
            f"hidden state {index * every} of {teacher} against {index} of {student}",
        )
        for index in range(student, 0, -1)
    )
    if start is None:
        return states
    return (*states, Expected("hidden_state", start, start, "hidden state 0: the embeddings"))


def _attention(
    layers: str, scores: tuple[At, ...], teacher: int, student: int
) -> tuple[Expected, ...]:
    """Return the scores before softmax of layer i·k + k − 1 against layer i, the last first."""
    every = teacher // student

    def of(index: int) -> Place:
        return tuple(At(f"{layers}.{index}.{at.layer}", at.op, at.nth) for at in scores)

    return tuple(
        Expected(
            "attention",
            of(index * every + every - 1),
            of(index),
            f"attention scores of layer {index * every + every - 1} against {index}",
        )
        for index in range(student - 1, -1, -1)
    )


# With the mask and without it; the products of query and key come before those of the scores.
_DISTIL_SCORES = (At("attention", "where"), At("attention", "matmul", 2))
_GPT_SCORES = (At("attn", "add", 3), At("attn", "matmul", 3))

_DISTILBERT = Case(
    name="DistilBERT teaches a narrower one of a quarter of its depth",
    family="wild: DistilBERT",
    teacher=Net(make=lambda: DistilBert(12, 24, 3, length=12), inputs=_TEXT),
    student=Net(make=lambda: DistilBert(3, 16, 2, length=12), inputs=_TEXT, mode="train"),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), _SCORES),
        *_hidden("layers", 12, 3, At("embed_norm")),
        *_attention("layers", _DISTIL_SCORES, 12, 3),
    ),
    never=(
        Never(At("layers.2"), At("layers.2"), "the same number, 3 of 12 against 3 of 3"),
        Never(At("layers.0"), At("layers.0"), "hidden state 1 of 12 against 1 of 3"),
        Never(At("layers.11.sa_layer_norm"), At("layers.2"), "inside the layer"),
        Never(At("layers.11.attention"), At("layers.2.attention"), "a branch, not the stream"),
    ),
    most=10,
)

_TO_LSTM = Case(
    name="DistilBERT teaches an LSTM",
    family="wild: text to LSTM",
    teacher=Net(make=lambda: DistilBert(4, 16, 2, length=12), inputs=_TEXT),
    student=Net(make=lambda: LstmClassifier(16, 8), inputs=_TEXT),
    expected=(
        Expected(
            "logits", At("classifier"), At("output_layer"), "class scores alone, as published"
        ),
    ),
    never=(
        Never(At("layers.3"), At("embedder"), "equal shape, but the end against the start"),
        Never(At("layers.0"), At("embedder"), "equal shape, but a layer against the embeddings"),
    ),
    most=4,
)

_CAUSAL = Case(
    name="a causal decoder teaches one of a third of its depth",
    family="wild: GPT",
    teacher=Net(make=lambda: GPT(6, 24, 3, length=12), inputs=_TEXT),
    student=Net(make=lambda: GPT(2, 16, 2, length=12), inputs=_TEXT, mode="train"),
    expected=(
        Expected("logits", At("", "matmul"), At("", "matmul"), "scores of the next token first"),
        *_hidden("h", 6, 2, At("drop")),
        *_attention("h", _GPT_SCORES, 6, 2),
    ),
    never=(
        Never(At("h.1"), At("h.1"), "the same number, 2 of 6 against 2 of 2"),
        Never(At("h.0"), At("h.0"), "hidden state 1 of 6 against 1 of 2"),
        Never(At("h.5.c_proj"), At("h.1.c_proj"), "a branch, not the stream"),
    ),
    most=8,
)

_TRANSLATE = Case(
    name="a translator teaches one with half of the layers on each side, at any length",
    family="wild: encoder and decoder",
    teacher=Net(make=lambda: Translator(4, 16, 2), inputs=_TRANSLATION),
    student=Net(make=lambda: Translator(2, 16, 2), inputs=_TRANSLATION),
    expected=(
        Expected("logits", At("project"), At("project"), "scores of each target token first"),
        *_hidden("decoder.layers", 4, 2, None),
        *_hidden("encoder.layers", 4, 2, None),
    ),
    never=(
        Never(At("encoder.layers.3"), At("decoder.layers.1"), "source tokens against target's"),
        Never(At("decoder.layers.3"), At("encoder.layers.1"), "target tokens against source's"),
        Never(At("decoder.layers.1"), At("decoder.layers.1"), "2 of 4 against 2 of 2"),
        Never(At("encoder.layers.1"), At("encoder.layers.1"), "2 of 4 against 2 of 2"),
    ),
    most=14,
)

_TOWERS = Case(
    name="two towers teach two of half their depth",
    family="wild: CLIP",
    teacher=Net(make=lambda: CLIP(4, 16, embed=12), inputs=_CAPTIONED),
    student=Net(make=lambda: CLIP(2, 16, embed=12), inputs=_CAPTIONED),
    expected=(
        Expected(
            "logits",
            (At("", "multiply"), At("", "matmul")),
            (At("", "multiply"), At("", "matmul")),
            "how alike image and text are: affinity, with or without its temperature",
        ),
        Expected(
            "embedding",
            (At("visual_projection"), At("", "divide", -2)),
            (At("visual_projection"), At("", "divide", -2)),
            "image embeddings, mimicked before or after they are made unit vectors",
        ),
        Expected(
            "embedding",
            (At("text_projection"), At("", "divide", -1)),
            (At("text_projection"), At("", "divide", -1)),
            "text embeddings, mimicked before or after they are made unit vectors",
        ),
    ),
    never=(
        Never(
            At("visual_projection"), At("text_projection"), "equal shape, but image against text"
        ),
        Never(
            At("text_projection"), At("visual_projection"), "equal shape, but text against image"
        ),
        Never(At("visual.resblocks.3"), At("text.resblocks.1"), "image tower against text tower"),
        Never(At("text.resblocks.3"), At("visual.resblocks.1"), "text tower against image tower"),
        Never(At("visual.resblocks.1"), At("visual.resblocks.1"), "2 of 4 against 2 of 2"),
    ),
    most=14,
    lead=3,
)


def _yolox_pairs() -> tuple[Expected, ...]:
    necks = (("neck.top_down.1", "1/8"), ("neck.bottom_up.0", "1/16"), ("neck.bottom_up.1", "1/32"))
    heads = (("cls_preds", "class scores"), ("reg_preds", "boxes"), ("obj_preds", "objectness"))
    return (
        *(
            Expected("feature", At(path), At(path), f"what the head reads at {where}")
            for path, where in necks
        ),
        *(
            Expected(
                "head",
                At(f"head.{name}.{level}"),
                At(f"head.{name}.{level}"),
                f"{what} of level {level}",
            )
            for name, what in heads
            for level in range(3)
        ),
    )


_DECOUPLED = Case(
    name="a detector with decoupled heads teaches one with a separable backbone",
    family="wild: YOLOX",
    teacher=Net(make=lambda: YOLOX(AggregatedBackbone(), width=16, convs=2), inputs=((3, 96, 96),)),
    student=Net(make=lambda: YOLOX(SeparableBackbone(), width=16, convs=1), inputs=((3, 96, 96),)),
    expected=_yolox_pairs(),
    never=(
        Never(
            At("head.cls_convs.1"),
            At("head.reg_convs.1"),
            "equal shape, but the tower of the scores against that of the boxes",
        ),
        Never(
            At("neck.top_down.0"), At("neck.bottom_up.0"), "the way down against the way up at 1/16"
        ),
        Never(At("neck.reduce.0"), At("neck.top_down.1"), "has nothing of the levels above yet"),
        Never(At("neck.reduce.2"), At("neck.bottom_up.1"), "has nothing of the levels below yet"),
        Never(At("head.obj_preds.0"), At("head.obj_preds.1"), "equal channels, other level"),
        Never(At("backbone.stages.2"), At("neck.bottom_up.0"), "backbone against neck at 1/16"),
    ),
    most=12,
    lead=12,
)

_JOINTS = Case(
    name="a wide HRNet teaches a narrow one with fewer modules",
    family="wild: HRNet",
    teacher=Net(make=lambda: HRNet(8, 1, (1, 2, 2)), inputs=((3, 64, 64),)),
    student=Net(make=lambda: HRNet(4, 1, (1, 1, 1)), inputs=((3, 64, 64),)),
    expected=(
        Expected("logits", At("final_layer"), At("final_layer"), "the heatmaps of the joints"),
        Expected("feature", At("stage4"), At("stage4"), "what the last convolution reads"),
    ),
    never=(
        Never(At("layer1"), At("stage4"), "equal H×W, but before the branches against their sum"),
        Never(At("stage4.1.branches.1"), At("stage4"), "1/8 against 1/4"),
        Never(At("stage4"), At("stage2", nth=0), "equal H×W, but the end against the second stage"),
        Never(At("stage4.1.branches.3"), At("stage4.0.branches.2"), "1/32 against 1/16"),
        Never(At("conv1"), At("conv1"), "stems are not used"),
    ),
)

_DRAW = Case(
    name="a residual generator teaches transposed convolutions",
    family="wild: generator",
    teacher=Net(make=ResidualGenerator, inputs=((16,),)),
    student=Net(make=DCGenerator, inputs=((16,),)),
    expected=(
        Expected(
            "logits",
            (At("", "tanh"), At("to_image")),
            (At("", "tanh"), At("to_image")),
            "the image itself, pixel against pixel",
        ),
        Expected("feature", At("blocks.2"), At("ups.2"), "32×32: what the last convolution reads"),
        Expected("stage", At("blocks.1"), At("ups.1"), "last of each at 16×16"),
        Expected("stage", At("blocks.0"), At("ups.0"), "last of each at 8×8"),
    ),
    never=(
        Never(At("blocks.1"), At("ups.2"), "16×16 against 32×32"),
        Never(At("blocks.1"), At("ups.0"), "16×16 against 8×8"),
        Never(
            At("blocks.1", "nearest_interp", 0),
            At("ups.1"),
            "equal H×W, but the teacher's map only holds the block before, enlarged",
        ),
    ),
    lead=2,
)

_ENLARGE = Case(
    name="super-resolution of one resolution teaches a narrow one of half its depth, at any size",
    family="wild: super-resolution",
    teacher=Net(make=lambda: EDSR(8, 16), inputs=((3, -1, -1),)),
    student=Net(make=lambda: EDSR(4, 8), inputs=((3, -1, -1),)),
    expected=(
        Expected("logits", At("tail"), At("tail"), "the enlarged image, pixel against pixel"),
        Expected(
            "feature",
            (At("trunk"), At("trunk.conv"), At("trunk.body.7")),
            (At("trunk"), At("trunk.conv"), At("trunk.body.3")),
            "end of the trunk: its sum, its convolution or its last block",
        ),
    ),
    never=(
        Never(At("trunk.body.3"), At("trunk.body.3"), "the same number, half against the end"),
        Never(At("head"), At("head"), "stems are not used"),
        Never(At("head"), At("trunk"), "the start against the end of the trunk"),
        Never(At("trunk"), At("up"), "before against after the map is enlarged"),
    ),
    lead=2,
)

_SOUND = Case(
    name="residual teaches plain convolutions on sound, at any length",
    family="wild: waveform",
    teacher=Net(make=WaveResNet, inputs=((1, -1),)),
    student=Net(make=WaveNet11, inputs=((1, -1),)),
    expected=(
        Expected("logits", At("fc"), At("fc"), _SCORES),
        Expected("embedding", At("", "mean"), At("", "mean"), "the mean over time"),
        *(
            Expected(
                "stage",
                At(f"stages.{stage}"),
                At(f"stages.{stage}"),
                f"last block of each at 1/{16 * 4**stage}",
            )
            for stage in (3, 2, 1, 0)
        ),
    ),
    never=(
        Never(At("stages.2.0"), At("stages.2"), "the teacher's stage goes on after it"),
        Never(At("stages.2"), At("stages.2.0"), "the student's stage goes on after it"),
        Never(At("conv1"), At("conv1"), "equal shape, but stems are not used"),
        Never(At("stages.2"), At("stages.3"), "1/256 against 1/1024"),
        Never(At("pool", nth=3), At("stages.3"), "it only ends the teacher's stage before"),
    ),
)

CASES: tuple[Case, ...] = (
    _DISTILBERT,
    _TO_LSTM,
    _CAUSAL,
    _TRANSLATE,
    _TOWERS,
    _DECOUPLED,
    _JOINTS,
    _DRAW,
    _ENLARGE,
    _SOUND,
)
