"""What can be wrong with weights that are loaded, or input that is given, after a merge."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Where, rule
from graphtool.graph import Shape

__all__ = ["unknown_feeds", "weights_misfit", "weights_missing"]

_LISTED = 5


@rule("GT250")
def weights_missing(source: str, names: Sequence[str], total: int) -> Diagnostic:
    """What the teacher's weights are loaded from lacks some of its parameters.

    They are looked up under the teacher's own names, then under those that merging gave them.
    Nothing was loaded.
    """
    return Diagnostic(
        message=f"{source} lacks {len(names)} of the teacher's {total} parameters",
        where=tuple(Where(role="teacher", value=name) for name in names[:_LISTED]),
        help="print(merged.names)",
    )


@rule("GT251")
def weights_misfit(
    name: str, found: tuple[Shape | None, str | None], wanted: tuple[Shape | None, str | None]
) -> Diagnostic:
    """A weight has another shape or dtype than the teacher's parameter; nothing was loaded."""
    return Diagnostic(
        message=f"`{name}` is {_spelt(*found)} and the teacher wants {_spelt(*wanted)}",
        where=(Where(role="teacher", value=name, shape=wanted[0]),),
        help="load the weights that were saved with this teacher",
    )


@rule("GT252")
def unknown_feeds(names: Sequence[str], known: Sequence[str]) -> Diagnostic:
    """`verify(feed)` was given a name that the merged Program is not fed under."""
    listed = ", ".join(f"`{name}`" for name in known)
    return Diagnostic(
        message=f"no feed is called {', '.join(f'`{name}`' for name in names)}",
        notes=(f"the merged Program is fed {listed}",),
        help=f"merged.verify({{{', '.join(f'{name!r}: …' for name in known)}}})",
    )


def _spelt(shape: Shape | None, dtype: str | None) -> str:
    return f"{dtype or 'of unknown dtype'} {'of unknown shape' if shape is None else list(shape)}"
