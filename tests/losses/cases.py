"""Losses beside their NumPy computation, alike on PIR, on Paddle 2.6.2 and inside OldIrGuard."""

from __future__ import annotations

import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """A loss, which its name begins with, of as many teacher's as student's Values; more feeds."""

    name: str
    teacher: Sequence[Sequence[int]]
    student: Sequence[Sequence[int]]
    options: dict[str, Any]
    fixed: dict[str, Array]
    make: Callable[[Array], Array]
    unknown: bool = False

    @property
    def build(self) -> Callable[..., Value]:
        build = _custom if self.name == "custom" else getattr(losses, self.name.split()[0])
        return partial(build, **self.options)

    @property
    def numpy(self) -> Callable[..., float]:
        numpy = _mean_cube if self.name == "custom" else getattr(reference, self.name.split()[0])
        return partial(numpy, **self.options, **self.fixed)


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


def case(
    name: str,
    shape: Any,
    student: Any = None,
    *,
    fixed: dict[str, Array] | None = None,
    make: Callable[[Array], Array] = lambda array: array,
    unknown: bool = False,
    **options: Any,
) -> Case:
    """Make a case of one shape for each side, or of a list of them; options are the loss's."""
    ends = [one if isinstance(one[0], list) else [one] for one in (shape, student or shape)]
    return Case(
        name=name,
        teacher=ends[0],
        student=ends[1],
        options=options,
        fixed=fixed or {},
        make=make,
        unknown=unknown,
    )


def probabilities(array: Array) -> Array:
    return reference.softmax(array * 2)


def second_key_masked(scores: Array) -> Array:
    return scores + np.where(np.arange(scores.shape[-1]) == 1, -1e4, 0)


def _custom(t: Value, s: Value) -> Value:
    def cubes(theirs: Value, ours: Value, scale: float) -> Value:
        apart = theirs - ours
        return paddle.mean(apart * apart * apart) * scale

    return losses.custom(cubes, theirs=t, ours=s, scale=0.5)


def _mean_cube(t: Array, s: Array) -> float:
    return float(0.5 * ((t - s) ** 3).mean())


LOGITS, MAP, TOKENS, SCORES = [4, 5], [3, 4, 3, 2], [2, 3, 5], [2, 2, 3, 3]
FLOWS = [[2, 3, 4, 2], [2, 5, 4, 2]], [[2, 3, 2, 3], [2, 5, 2, 3]]
COLUMN = LABELS[:, None].astype("int32")
BOOLS, FLOATS = {"mask": MASK.astype("bool")}, {"mask": MASK.astype("float32")}

CASES = [
    case("l2 of maps", MAP),
    case("l2 of vectors", [3, 7]),
    case("l2 of unknown sizes", MAP, unknown=True),
    case("hint of equal channels", MAP),
    case("soft_label", LOGITS),
    case("soft_label at two temperatures", LOGITS, teacher_temperature=3, student_temperature=0.5),
    case("soft_label of tokens", TOKENS, axis=-1),
    case("kl of a map of classes", MAP, axis=1),
    case(
        "soft_label from the teacher's probabilities",
        LOGITS,
        make=probabilities,
        from_probs="teacher",
        teacher_temperature=2,
    ),
    case("kl", LOGITS),
    case("kl at a temperature", LOGITS, temperature=1),
    case(
        "kl from probabilities of both",
        LOGITS,
        make=probabilities,
        from_probs="both",
        temperature=1,
    ),
    case("dkd with labels", LOGITS, fixed={"labels": LABELS}),
    case("dkd in a column", LOGITS, fixed={"labels": COLUMN}, alpha=0.5, beta=2, temperature=2),
    case("dkd with the teacher's class", LOGITS, alpha=1, beta=1, temperature=1),
    case("skd", LOGITS),
    case("skd with a multiplier", LOGITS, multiplier=2.5),
    case("lskd", LOGITS),
    case("lskd at a temperature of tokens", TOKENS, temperature=4, axis=2),
    case("lskd from probabilities", LOGITS, make=probabilities, from_probs="both"),
    case("dist", LOGITS),
    case("dist with weights", LOGITS, beta=2, gamma=0.5, temperature=4),
    case("attention", MAP, [3, 2, 3, 2]),
    case("attention of unknown sizes", MAP, unknown=True),
    case("channel_wise", MAP),
    case("channel_wise of sequences", [2, 3, 6], temperature=1),
    case("fsp", *FLOWS),
    case("fsp of unknown sizes", *FLOWS, unknown=True),
    case("similarity", MAP, [3, 7]),
    case("relational", [4, 3], [4, 2, 2]),
    case("relational with weights", [4, 6], distance=1, angle=0),
    case("relational_distance", [5, 2]),
    case("relational_angle", [4, 3]),
    case("pkd of vectors", [3, 4]),
    case("pkd of tokens", TOKENS),
    case("pkd of maps", MAP),
    case("hidden_state", TOKENS),
    case("hidden_state with a mask", TOKENS, fixed={"mask": MASK}),
    case("attention_scores", SCORES),
    case("attention_scores with a mask added", SCORES, make=second_key_masked),
    case("attention_scores with a mask", SCORES, fixed=BOOLS),
    case("attention_scores by divergence", SCORES, by="divergence"),
    case("attention_scores by divergence with a mask", SCORES, fixed=FLOATS, by="divergence"),
    case("attention_relation", [2, 2, 3, 5], [2, 2, 3, 2]),
    case("attention_relation of heads anew", [2, 2, 3, 6], [2, 3, 3, 4], heads=4),
    case("attention_relation with a mask", [2, 3, 3, 2], [2, 1, 3, 4], fixed=BOOLS, heads=2),
    case("custom", [3, 4]),
]


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
