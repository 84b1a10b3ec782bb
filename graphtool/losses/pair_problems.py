"""Diagnostics about the pairs, adapters, weights and options of `distill_loss`."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.arguments import short_repr
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, rule
from graphtool.text import string_literal

__all__ = [
    "adapter_for_nothing",
    "bad_weight",
    "fsp_weights_differ",
    "moved_value",
    "no_pairs",
    "outside_program",
    "unknown_option",
    "unknown_part",
    "weights_length",
    "wrong_argument",
]


@rule("GT358")
def wrong_argument(name: str, given: object, expected: str, help: str) -> Diagnostic:
    """An argument of `distill_loss` or of an adapter is none that it takes; nothing was built.

    Pairs are a PairSet, a Recipe, the path of a recipe file, or a list of Pairs and of tuples
    `(teacher name, student name)` or `(teacher name, student name, loss)`.
    """
    return Diagnostic(
        message=f"`{name}` is `{short_repr(given)}`; wanted {expected}",
        help=help,
    )


@rule("GT359")
def outside_program(source: str, *, legacy: bool) -> Diagnostic:
    """`distill_loss` was called where another Program than the merged one is being built.

    The losses would be built into that one, which has none of the Values. The startup program of
    the guard is the one that the student has, or a new one for the adapters, which leaves weights
    alone that were loaded before: run it before training. For a legacy Program on Paddle 3 all of
    it goes into `paddle.pir_utils.OldIrGuard()`.
    """
    notes = ("it is a legacy Program: `OldIrGuard` has to be active, too",) if legacy else ()
    return Diagnostic(
        message="the current main Program is not the merged one",
        where=(Where(role="merged", program=source),),
        notes=notes,
        help="with paddle.static.program_guard(merged.program, startup):",
    )


@rule("GT360")
def bad_weight(of: str, given: object, expected: str, help: str) -> Diagnostic:
    """The weight of a pair is neither a number from 0 up nor a scalar Value of the Program.

    A weight that changes while training is a Value: a `paddle.static.data` that each run feeds, or
    what is computed from a step counter. It has the shape [] or [1]. Numbers that are all 0 would
    teach nothing.
    """
    return Diagnostic(
        message=f"the weight of {of} is `{short_repr(given)}`; wanted {expected}",
        help=help,
    )


@rule("GT361")
def weights_length(given: int, pairs: int, help: str) -> Diagnostic:
    """A list of weights has another length than the pairs have.

    It has one for each pair, in the order of the pairs. A mapping, from the name of a part or from
    a rank or kind, names only those that are to change.
    """
    return Diagnostic(
        message=f"`weights` has {given}, and there {'is' if pairs == 1 else 'are'} "
        f"{counted(pairs, 'pair')}",
        help=help,
    )


_EXAMPLES = {"weights": "1.0", "options": "{}"}


@rule("GT362")
def unknown_part(argument: str, key: object, known: Sequence[str]) -> Diagnostic:
    """A key of `weights` or `options` fits no part of the loss.

    Weights are keyed by the name of a part (`l2_relu_22`), the rank of a pair (3) or its kind
    (`stage`); options by the name of a part or of a loss (`soft_label`).
    """
    return Diagnostic(
        message=f"`{argument}` has the key `{key!r}`, which fits no part of the loss",
        notes=(f"known: {', '.join(f'`{name}`' for name in known)}",),
        help=f"{argument}={{{string_literal(known[0])}: {_EXAMPLES[argument]}}}" if known else None,
    )


@rule("GT364")
def fsp_weights_differ(part: str, first: object, second: object) -> Diagnostic:
    """The two pairs that one fsp loss is made of have different weights, and it can have but one.

    Give both the same weight.
    """
    return Diagnostic(
        message=f"`{part}` is one loss of two pairs, which weigh `{short_repr(first)}` and "
        f"`{short_repr(second)}`",
        help=f"weights={{{string_literal(part)}: 1.0}}",
    )


@rule("GT365")
def adapter_for_nothing(part: str, loss: str, adapter: str) -> Diagnostic:
    """A pair has an adapter, and a loss that compares Values of any number of channels.

    It is built, as the pair says. Yet what the adapter learns the student need not: these losses
    are best without. In a recipe whose `loss` was changed, take out the `adapter` beside it.
    """
    return Diagnostic(
        message=f"`{part}`: `{loss}` does without the adapter `{adapter}`",
        severity=Severity.WARNING,
        help="delete the pair's `adapter`",
    )


@rule("GT366")
def unknown_option(loss: str, option: str, known: Sequence[str]) -> Diagnostic:
    """`options` has a key that a loss doesn't take; the note lists those that it takes."""
    listed = ", ".join(f"`{name}`" for name in known) or "none"
    return Diagnostic(
        message=f"`{loss}` has no option `{option}`",
        notes=(f"it has {listed}",),
        help=f"help(gt.losses.{loss})",
    )


@rule("GT367")
def no_pairs() -> Diagnostic:
    """There are no pairs, so there is no loss to build.

    `suggest_pairs` found nothing in common, or all pairs were taken out of a recipe.
    """
    return Diagnostic(
        message="there are no pairs to make a loss of",
        help="graphtool suggest-pairs TEACHER STUDENT --match shape",
    )


@rule("GT368")
def moved_value(where: Where, made: str, now: str) -> Diagnostic:
    """A Pair was made for another Program, in which its name means another Value.

    Names such as `add_3` count operators, so they move where a Program was pruned or built in
    another way. A whole PairSet, and a recipe, find their Values again by what leads to them; a
    list of Pairs is taken by its names. Put the Pairs that you want back into a PairSet.
    """
    return Diagnostic(
        message=f"`{where.value}` was {made} where the pair was made, and is {now} here",
        where=(where,),
        help="gt.distill_loss(merged, dataclasses.replace(pairs, pairs=tuple(chosen)))",
    )
