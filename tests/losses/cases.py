"""Losses beside their NumPy computation, alike on PIR, on Paddle 2.6.2 and inside OldIrGuard."""

from __future__ import annotations

import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import paddle

from graphtool import losses
from tests.losses import reference

Array = Any
Value = Any

MASK = np.array([[1, 1, 0], [1, 0, 0]])
LABELS = np.array([2, 0, 4, 1])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A loss of as many teacher's as student's Values; `fixed` are further feeds."""

    name: str
    build: Callable[..., Value]
    numpy: Callable[..., float]
    teacher: Sequence[Sequence[int]]
    student: Sequence[Sequence[int]]
    make: Callable[[Array], Array] = lambda array: array
    fixed: dict[str, Array] = field(default_factory=dict[str, Array])
    unknown: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    value: float
    wanted: float
    gradients: list[Array]
    wanted_gradients: list[Array]

    def agrees(self) -> bool:
        return bool(
            np.isclose(self.value, self.wanted, rtol=1e-9, atol=1e-12)
            and all(
                np.allclose(found, wanted, rtol=1e-5, atol=1e-8)
                for found, wanted in zip(self.gradients, self.wanted_gradients, strict=True)
            )
        )


def one(
    name: str,
    build: Callable[..., Value],
    numpy: Callable[..., float],
    shape: Sequence[int],
    student: Sequence[int] | None = None,
    **more: Any,
) -> Case:
    """Make a case of one Value per side."""
    return Case(
        name=name,
        build=build,
        numpy=numpy,
        teacher=[shape],
        student=[student or shape],
        **more,
    )


def probabilities(array: Array) -> Array:
    return reference.softmax(array * 2)


LOGITS, MAP, TOKENS, SCORES = [4, 5], [3, 4, 3, 2], [2, 3, 5], [2, 2, 3, 3]

CASES = [
    one("l2 of maps", losses.l2, reference.l2, MAP),
    one("l2 of vectors", losses.l2, reference.l2, [3, 7]),
    one("l2 of unknown sizes", losses.l2, reference.l2, MAP, unknown=True),
    one("hint of equal channels", losses.hint, reference.l2, MAP),
    one("soft_label", losses.soft_label, reference.soft_label, LOGITS),
    one(
        "soft_label at two temperatures",
        partial(losses.soft_label, teacher_temperature=3, student_temperature=0.5),
        partial(reference.soft_label, teacher=3, student=0.5),
        LOGITS,
    ),
    one(
        "soft_label of tokens",
        partial(losses.soft_label, axis=-1),
        reference.soft_label,
        TOKENS,
    ),
    one(
        "kl of a map of classes",
        partial(losses.kl, axis=1),
        lambda t, s: reference.kl(np.moveaxis(t, 1, -1), np.moveaxis(s, 1, -1), 4),
        MAP,
    ),
    one(
        "soft_label from the teacher's probabilities",
        partial(losses.soft_label, from_probs="teacher", teacher_temperature=2),
        partial(reference.soft_label_of_probabilities, teacher=2),
        LOGITS,
        make=probabilities,
    ),
    one("kl", losses.kl, partial(reference.kl, temperature=4), LOGITS),
    one("kl at a temperature", partial(losses.kl, temperature=1), reference.kl, LOGITS),
    one(
        "kl from probabilities of both",
        partial(losses.kl, from_probs="both", temperature=1),
        lambda t, s: float((t * np.log(t / (s / s.sum(1, keepdims=True)))).sum() / len(t)),
        LOGITS,
        make=probabilities,
    ),
    one(
        "dkd with labels",
        losses.dkd,
        partial(reference.dkd, labels=LABELS),
        LOGITS,
        fixed={"labels": LABELS},
    ),
    one(
        "dkd with labels in a column",
        partial(losses.dkd, alpha=0.5, beta=2, temperature=2),
        partial(reference.dkd, labels=LABELS, alpha=0.5, beta=2, temperature=2),
        LOGITS,
        fixed={"labels": LABELS[:, None].astype("int32")},
    ),
    one(
        "dkd with the teacher's class",
        partial(losses.dkd, alpha=1, beta=1, temperature=1),
        lambda t, s: reference.dkd(t, s, t.argmax(1), 1, 1, 1),
        LOGITS,
    ),
    one("skd", losses.skd, reference.skd, LOGITS),
    one(
        "skd with a multiplier",
        partial(losses.skd, multiplier=2.5),
        partial(reference.skd, multiplier=2.5),
        LOGITS,
    ),
    one("lskd", losses.lskd, reference.lskd, LOGITS),
    one(
        "lskd at a temperature of tokens",
        partial(losses.lskd, temperature=4, axis=2),
        partial(reference.lskd, temperature=4),
        TOKENS,
    ),
    one(
        "lskd from probabilities",
        partial(losses.lskd, from_probs="both"),
        lambda t, s: reference.lskd(np.log(t), np.log(s)),
        LOGITS,
        make=probabilities,
    ),
    one("dist", losses.dist, reference.dist, LOGITS),
    one(
        "dist with weights",
        partial(losses.dist, beta=2, gamma=0.5, temperature=4),
        partial(reference.dist, beta=2, gamma=0.5, tau=4),
        LOGITS,
    ),
    one("attention", losses.attention, reference.attention, MAP, [3, 2, 3, 2]),
    one("attention of unknown sizes", losses.attention, reference.attention, MAP, unknown=True),
    one("channel_wise", losses.channel_wise, reference.channel_wise, MAP),
    one(
        "channel_wise of sequences",
        partial(losses.channel_wise, temperature=1),
        partial(reference.channel_wise, temperature=1),
        [2, 3, 6],
    ),
    Case(
        name="fsp",
        build=losses.fsp,
        numpy=reference.fsp,
        teacher=[[2, 3, 4, 2], [2, 5, 4, 2]],
        student=[[2, 3, 2, 3], [2, 5, 2, 3]],
    ),
    Case(
        name="fsp of unknown sizes",
        build=losses.fsp,
        numpy=reference.fsp,
        teacher=[[2, 3, 4, 2], [2, 5, 4, 2]],
        student=[[2, 3, 2, 3], [2, 5, 2, 3]],
        unknown=True,
    ),
    one("similarity", losses.similarity, reference.similarity, MAP, [3, 7]),
    one("relational", losses.relational, reference.relational, [4, 3], [4, 2, 2]),
    one(
        "relational with weights",
        partial(losses.relational, distance=1, angle=0),
        reference.relational_distance,
        [4, 6],
    ),
    one("relational_distance", losses.relational_distance, reference.relational_distance, [5, 2]),
    one("relational_angle", losses.relational_angle, reference.relational_angle, [4, 3]),
    one("pkd of vectors", losses.pkd, reference.patient, [3, 4]),
    one("pkd of tokens", losses.pkd, reference.patient, TOKENS),
    one("pkd of maps", losses.pkd, reference.pearson_maps, MAP),
    one("hidden_state", losses.hidden_state, reference.l2, TOKENS),
    one(
        "hidden_state with a mask",
        losses.hidden_state,
        partial(reference.hidden_state, mask=MASK),
        TOKENS,
        fixed={"mask": MASK},
    ),
    one("attention_scores", losses.attention_scores, reference.attention_scores, SCORES),
    one(
        "attention_scores with a mask added",
        losses.attention_scores,
        reference.attention_scores,
        SCORES,
        make=lambda x: x + np.where(np.arange(x.shape[-1]) == 1, -1e4, 0),
    ),
    one(
        "attention_scores with a mask",
        losses.attention_scores,
        partial(reference.attention_scores, mask=MASK),
        SCORES,
        fixed={"mask": MASK.astype("bool")},
    ),
    one(
        "attention_scores by divergence",
        partial(losses.attention_scores, by="divergence"),
        reference.attention_divergence,
        SCORES,
    ),
    one(
        "attention_scores by divergence with a mask",
        partial(losses.attention_scores, by="divergence"),
        partial(reference.attention_divergence, mask=MASK),
        SCORES,
        fixed={"mask": MASK.astype("float32")},
    ),
    one(
        "attention_relation",
        losses.attention_relation,
        reference.attention_relation,
        [2, 2, 3, 5],
        [2, 2, 3, 2],
    ),
    one(
        "attention_relation of heads anew",
        partial(losses.attention_relation, heads=4),
        partial(reference.attention_relation, heads=4),
        [2, 2, 3, 6],
        [2, 3, 3, 4],
    ),
    one(
        "attention_relation of heads anew with a mask",
        partial(losses.attention_relation, heads=2),
        partial(reference.attention_relation, heads=2, mask=MASK),
        [2, 3, 3, 2],
        [2, 1, 3, 4],
        fixed={"mask": MASK.astype("bool")},
    ),
    one(
        "custom",
        lambda t, s: losses.custom(_cubes, theirs=t, ours=s, scale=0.5),
        lambda t, s: float(0.5 * ((t - s) ** 3).mean()),
        [3, 4],
    ),
]


def _cubes(theirs: Value, ours: Value, scale: float) -> Value:
    apart = theirs - ours
    return paddle.mean(apart * apart * apart) * scale


def arrays_of(case: Case, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    return [case.make(random.normal(size=shape)) for shape in (*case.teacher, *case.student)]


def run(case: Case) -> Outcome:
    """Build a case in float64 and run it; Programs are of the kind that Paddle now builds."""
    arrays, first = arrays_of(case), len(case.teacher)
    value, *found = evaluate(
        case.build, arrays[:first], arrays[first:], case.fixed, unknown=case.unknown
    )
    return Outcome(
        value=float(value),
        wanted=float(case.numpy(*arrays)),
        gradients=found,
        wanted_gradients=[
            reference.gradient(case.numpy, arrays, at) for at in range(first, len(arrays))
        ],
    )


def evaluate(
    build: Callable[..., Value],
    teacher: Sequence[Array],
    student: Sequence[Array],
    fixed: Mapping[str, Array] | None = None,
    *,
    unknown: bool = False,
) -> list[Array]:
    """Return the number that a loss is, and its gradients by the student's arrays."""
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    feed = {f"t{at}": array for at, array in enumerate(teacher)}
    feed.update({f"s{at}": array for at, array in enumerate(student)})
    with paddle.static.program_guard(main, startup):
        ends = [declared(name, array, unknown=unknown) for name, array in feed.items()]
        for value in ends[len(teacher) :]:
            value.stop_gradient = False
        more = {
            name: declared(name, array, unknown=unknown) for name, array in (fixed or {}).items()
        }
        loss = build(*ends, **more)
        gradients = paddle.static.gradients([loss], ends[len(teacher) :])
    value, *found = paddle.static.Executor(paddle.CPUPlace()).run(
        main, feed={**feed, **(fixed or {})}, fetch_list=[loss, *gradients]
    )
    assert value.shape == ()
    return [value, *found]


def declared(name: str, array: Array, *, unknown: bool = False) -> Value:
    """Declare a feed: the batch is unknown, all beyond the channels may be."""
    rest = [-1] * (array.ndim - 2) if unknown else list(array.shape[2:])
    return paddle.static.data(name, [-1, *array.shape[1:2], *rest], str(array.dtype))
