"""Other spellings of one network: Graphs that compute the same, or more beside it."""

from tests.matching.rewrites.additions import with_auxiliary_head, with_dead_branches
from tests.matching.rewrites.fusion import (
    with_folded_norms,
    with_fused_activations,
    with_split_activations,
)
from tests.matching.rewrites.removal import without_block
from tests.matching.rewrites.rewritten import Rewritten
from tests.matching.rewrites.spelling import (
    kind_names,
    renamed,
    reordered,
    with_unknown_sides,
    without_modules,
)

__all__ = [
    "Rewritten",
    "kind_names",
    "renamed",
    "reordered",
    "with_auxiliary_head",
    "with_dead_branches",
    "with_folded_norms",
    "with_fused_activations",
    "with_split_activations",
    "with_unknown_sides",
    "without_block",
    "without_modules",
]
