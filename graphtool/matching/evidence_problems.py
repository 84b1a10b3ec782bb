"""Diagnostics of evidence from data: GT370 to GT385."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import PurePath

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import UNKNOWN_DIM, Shape, Value
from graphtool.paths import list_command
from graphtool.text import string_literal

__all__ = [
    "constant_maps",
    "evidence_misfit",
    "evidence_of_noise",
    "evidence_run_failed",
    "evidence_source_failed",
    "feeds_not_given",
    "no_evidence_source",
    "not_finite",
    "not_measured",
    "nothing_to_run",
    "one_scope_for_both",
    "outliers_decide",
    "parameters_not_loaded",
    "reaching_outside",
    "savez_call",
    "shape_text",
    "too_few_samples",
    "unreadable_evidence",
]

_LISTED = 6
# Code that locates NaN and infinities.
_CHECKS = {
    "samples": "numpy.argwhere(~numpy.isfinite(images))",
    "feature maps": "images / numpy.abs(images).max()",
}
_ALLOW = 'gt.suggest_pairs(teacher, student, evidence="random", allow_random=True)'


@rule("GT370")
def no_evidence_source(source: str) -> Diagnostic:
    """Evidence comes from a `.npy`, a `.npz`, `module:callable` or `random`, and this is none.

    A `.npy` holds samples for networks with one feed. A `.npz` holds an array for each feed, by its
    name, and is read whole, while of a `.npy` no more than the batches that are run is read.
    `module:callable` is called and yields batches: arrays, or dicts by feed name. `random` draws
    numbers, the same ones every time. In Python it may also be an array, a dict of arrays, a
    function, or anything that yields batches, as a DataLoader does.
    """
    return Diagnostic(
        message=f"`{source}` is no source of evidence: .npy, .npz, module:callable or random",
        help='evidence="samples.npz"',
    )


@rule("GT371")
def unreadable_evidence(path: str, reason: str, *, exists: bool) -> Diagnostic:
    """A file of samples can't be read: it is not there, damaged, or holds Python objects.

    Nothing in it is unpickled. `numpy.save` and `numpy.savez` write what can be read, as long as
    the arrays are of numbers; texts beside them in a `.npz` are left aside. A `.npz` that becomes
    gigabytes, and many times its own size, is not unpacked.
    """
    single = 'numpy.save("samples.npy", images)'
    write = single if PurePath(path).suffix == ".npy" else savez_call("image")
    return Diagnostic(
        message=f"`{path}` can't be read as samples: {reason}",
        help=write if exists else list_command(PurePath(path).parent),
    )


@rule("GT372")
def evidence_misfit(
    role: str,
    program: str,
    feed: Value,
    *,
    expected: str,
    given: str,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """Samples don't fit the feed that they are for; the message says what is wanted and given.

    The first axis counts the samples, the others are as the network's feed has them. Whole numbers
    don't fit a feed of fractions: images as bytes were not normalised. Each feed gets the array of
    its name, so networks that read other sizes have feeds of other names, or one `.npz` is not
    enough.
    """
    return Diagnostic(
        message=f"feed `{feed.name}` of the {role}: wanted {expected}, given {given}",
        where=(Where(role=role, program=program, value=feed.name, shape=feed.shape),),
        notes=tuple(notes),
        help=help or savez_call(feed.name),
    )


@rule("GT373")
def feeds_not_given(
    role: str, program: str, missing: Sequence[str], given: Sequence[str], feeds: Sequence[str]
) -> Diagnostic:
    """The samples lack feeds that the feature maps are computed from.

    A `.npz`, or a batch that is a dict, has an array under the name of each feed. What only a loss
    needs, such as the label, may be left out. One array without a name, as in a `.npy`, does for
    networks with one feed, whatever its name is.
    """
    names = listed(given, _LISTED) if any(given) else "one array without a name"
    return Diagnostic(
        message=f"no samples for {listed(missing, _LISTED)} of the {role}",
        where=(Where(role=role, program=program),),
        notes=(f"given: {names}",),
        help=savez_call(*feeds),
    )


@rule("GT374")
def too_few_samples(count: int, least: int, where: str, help: str) -> Diagnostic:
    """A batch has too few samples: the unbiased estimator of HSIC divides by n - 3.

    With 4 it is defined, and says little; 32 and more are better. A network that was exported with
    a fixed batch takes no other.
    """
    return Diagnostic(
        message=f"{where} has {counted(count, 'sample')}: unbiased CKA takes at least {least}",
        help=help,
    )


@rule("GT375")
def not_finite(
    place: Where,
    *,
    what: str,
    batch: int | None = None,
    sample: int | None = None,
    help: str | None = None,
) -> Diagnostic:
    """There is a NaN or an infinity in the samples, the parameters, or a feature map.

    The place is the first one, of feature maps the first of those measured, in program order: there
    it comes from numbers that are too large on the way to it.
    """
    where = "" if batch is None else f": batch {batch}, sample {sample}, both from 1"
    return Diagnostic(
        message=f"the {what} have a NaN or an infinity{where}",
        where=(place,),
        help=help or _CHECKS[what],
    )


@rule("GT376")
def parameters_not_loaded(
    role: str,
    program: str,
    counts: tuple[int, int],
    reason: str,
    *,
    help: str | None,
    allowed: bool,
) -> Diagnostic:
    """Parameters are as their initialisers left them: CKA of random weights means nothing.

    A saved model has its weights in a file beside it, a network from `module:callable` those that
    the callable loads into it. Where all biases, scales and shifts have one number throughout, as
    initialisers set them and training never leaves them, the network never learnt. `--allow-random`
    (in Python `allow_random=True`) measures all the same; what is missing is drawn at random then.
    """
    count, of = counts
    number = f"{of}" if count == of else f"{count} of {of}"
    how = () if allowed else ("--allow-random (in Python allow_random=True) measures all the same",)
    return Diagnostic(
        message=f"{number} parameters of the {role} were never {reason}",
        severity=Severity.WARNING if allowed else Severity.ERROR,
        where=(Where(role=role, program=program),),
        notes=("CKA of random weights says how alike two random functions are", *how),
        help=help if help or allowed else _ALLOW,
    )


@rule("GT377")
def evidence_source_failed(source: str, reason: str, frames: Sequence[str] = ()) -> Diagnostic:
    """What is to yield batches can't be had, raises, or yields nothing, or no batch.

    It is called without arguments and gives something to iterate over. A batch is an array, whose
    first axis counts the samples, or a dict of arrays by feed name.
    """
    return Diagnostic(
        message=f"`{source}` {reason}",
        notes=tuple(frames),
        help='yield {"image": images}',
    )


@rule("GT378")
def evidence_run_failed(role: str, program: str, reason: str, feeds: Sequence[str]) -> Diagnostic:
    """Paddle refuses to run a network on the samples; the message has what it says.

    Ids may be out of range, or a dim that the program leaves open may not be one that it takes.
    """
    return Diagnostic(
        message=f"the {role} does not run on the samples: {reason}",
        where=(Where(role=role, program=program),),
        notes=(f"fed: {listed(feeds, _LISTED)}",),
    )


@rule("GT379")
def nothing_to_run(role: str, program: str) -> Diagnostic:
    """Evidence needs a network that runs, and a Graph is plain data without parameters.

    Hand over what the Graph was read from: the path, `module:callable`, the Program or Network.
    """
    return Diagnostic(
        message=f"the {role} is a Graph, which does not run",
        where=(Where(role=role, program=program),),
        help='gt.suggest_pairs("teacher.json", "student.json", evidence="samples.npz")',
    )


@rule("GT380")
def not_measured(role: str, program: str, names: Sequence[str], reason: str) -> Diagnostic:
    """Some Values have no CKA; the message says why.

    Left out are Values of inner Blocks, whole numbers, single numbers, Variables that are written
    again later, and maps whose first axis is not the samples, as in recurrent networks.
    """
    return Diagnostic(
        message=f"no CKA of {listed(names, _LISTED)} of the {role}: {reason}",
        severity=Severity.NOTE,
        where=(Where(role=role, program=program),),
    )


@rule("GT381")
def constant_maps(role: str, program: str, names: Sequence[str]) -> Diagnostic:
    """A feature map is the same for all samples: its CKA with anything is undefined.

    Either it is dead (all of a ReLU's input is negative), or the samples are all the same.
    """
    return Diagnostic(
        message=f"{listed(names, _LISTED)} of the {role} do not depend on the sample: no CKA",
        severity=Severity.WARNING,
        where=(Where(role=role, program=program),),
    )


@rule("GT382")
def outliers_decide(role: str, program: str, causes: Mapping[str, str]) -> Diagnostic:
    """A few directions have most of a feature map's variance, and decide its CKA by themselves.

    CKA is known to follow outliers (Nguyen, Raghu and Kornblith 2022, arXiv 2202.07184; Davari et
    al. 2023, arXiv 2210.16156): one channel, or one sample, may make two maps look alike that are
    not, or the other way round. Directions count that have half of what is left of the variance, up
    to three, where a score moves by 0.1 or more without them; each such pair says what is left.
    """
    return Diagnostic(
        message=f"outliers decide scores of {listed(tuple(causes), _LISTED)} of the {role}",
        severity=Severity.WARNING,
        where=(Where(role=role, program=program),),
        notes=tuple(f"`{name}`: {cause}" for name, cause in islice(causes.items(), _LISTED)),
    )


@rule("GT383")
def evidence_of_noise() -> Diagnostic:
    """Random samples show how the networks handle noise, not what they make of your data."""
    return Diagnostic(
        message="random samples: CKA says how alike the networks handle noise, not your data",
        severity=Severity.NOTE,
        help='evidence="samples.npz"',
    )


@rule("GT384")
def one_scope_for_both(places: Sequence[Where], count: int) -> Diagnostic:
    """Two networks would read the same parameters: those of one name in the Scope of both.

    Two Programs count their layers from 0 each, so their parameters have the same names. The
    startup program that ran last set them, and the teacher would run with the student's weights.
    Run the teacher's startup and load its weights in a Scope of its own, and hand it over as
    `teacher_scope`. Where both Programs are one network and are meant to share its weights, hand
    over their Scope as `teacher_scope`.
    """
    parameters = f"{counted(count, 'parameter')} of teacher and student"
    return Diagnostic(
        message=f"{parameters} have one name, and come from one Scope",
        where=tuple(places),
        notes=("each Program counts its layers from 0",),
        help='gt.suggest_pairs(teacher, student, evidence="samples.npz", '
        "teacher_scope=teacher_scope)",
    )


@rule("GT385")
def reaching_outside(role: str, program: str, types: Sequence[str]) -> Diagnostic:
    """A saved model has operators that do more than compute, and is not run for evidence.

    They read or write files whose names the model gives, run Python, load engines or talk to other
    processes: a model from elsewhere could do any harm that way. Without evidence it is read, and
    nothing of it runs. A network that needs such operators is run where it is built from code that
    you trust, as `module:callable`.
    """
    return Diagnostic(
        message=f"the {role} reaches out of itself when it runs: {listed(types, _LISTED)}",
        where=(Where(role=role, program=program),),
        help="graphtool suggest-pairs TEACHER STUDENT",
    )


def savez_call(*feeds: str) -> str:
    """Return a call that saves samples for some feeds: `numpy.savez("samples.npz", x=images)`."""
    if all(name.isidentifier() for name in feeds):
        arrays = ", ".join(f"{name}=images" for name in feeds)
    else:
        arrays = f"**{{{', '.join(f'{string_literal(name)}: images' for name in feeds)}}}"
    return f'numpy.savez("samples.npz", {arrays})'


def shape_text(shape: Shape | None, dtype: str | None) -> str:
    """Return a shape and dtype as text: `[?, 3, 32, 32] float32`."""
    dims = ", ".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in shape or ())
    return f"[{dims}] {dtype or '?'}"
