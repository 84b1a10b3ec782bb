"""The private names of Paddle that graphtool needs, and what each is needed for.

All were seen in Paddle 2.6.2 and 3.0 to 3.3; names of PIR are not in 2.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphtool.diagnostics import Diagnostic, Severity, listed, rule

__all__ = ["is_unseen", "missing_names", "unseen_paddle"]

_NEWEST_SEEN = (3, 3)

# Below `paddle`, by what is not possible without them. Attributes that only instances have
# (an optimizer's `_accumulators`) are not listed: they are read with a default.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "merging": (
        "base.core.DenseTensor._clear",
        "base.core.DenseTensor._copy",
        "base.core.DenseTensor._dtype",
        "base.core.DenseTensor._is_initialized",
        "base.core.DenseTensor._place",
        "base.core.DenseTensor._ptr",
        "base.core.DenseTensor._set_dims",
        "base.core.DenseTensor._share_data_with",
        "base.core.Place",
        "base.core.Scope",
        "base.core.get_all_op_names",
        "base.core.get_variable_tensor",
        "base.core.pir.ops",
        "base.unique_name.generator",
        "pir.IrMapping",
    ),
    "reading PIR Programs": ("base.core.DataType",),
    "merging legacy Programs": (
        "base.core.BlockDesc._remove_op",
        "base.core.BlockDesc._remove_var",
        "base.core.BlockDesc._set_forward_block_idx",
        "base.core.OpDesc._block_attr_id",
        "base.core.OpDesc._blocks_attr_ids",
        "base.core.ProgramDesc",
        "base.framework.Block._insert_op",
        "base.framework.OpProtoHolder",
        "static.Program._sync_with_cpp",
    ),
    "merging a legacy teacher into a PIR student": ("pir.translate_to_pir_with_param_map",),
    "opening and saving PIR Programs": (
        "base.core.deserialize_pir_program",
        "base.core.serialize_pir_program",
    ),
    "gt.from_layer": (
        "base.data_feeder.convert_dtype",
        "base.framework._dygraph_guard",
        "base.libpaddle.pir.get_current_insertion_point",
        "pir.translate_to_pir",
        "pir_utils.OldIrGuard",
    ),
    "check_merge(..., place=...)": (
        "base.core._get_phi_kernel_name",
        "base.core._get_registered_phi_kernels",
        "base.framework._get_paddle_place",
    ),
    "Merged.verify": ("base.core._Scope._remove_from_pool", "base.core.default_cpu_generator"),
    "suggest_pairs(..., evidence=...)": ("base.libpaddle.pir.set_insertion_point_after",),
    "gt.for_test": ("static.Program._prune",),
    "gt.for_training": (
        "_C_ops.batch_norm_",
        "_C_ops.data",
        "_C_ops.dropout",
        "base.framework.Block._remove_op",
        "base.framework.Block._remove_var",
        "base.framework.Block._var_recursive",
        "base.framework.Operator._set_attr",
        "base.framework.Parameter",
        "pir.set_insertion_point",
    ),
    "losses in legacy Programs": ("base.layer_helper.LayerHelper",),
    "gt.minimize(..., accumulate=...)": (
        "_C_ops.assign_out_",
        "optimizer.Optimizer._create_global_learning_rate",
        "pir.core.create_persistable_value",
    ),
    "gt.minimize on several ranks": (
        "_C_ops.all_reduce",
        "_C_ops.broadcast",
        "base.core.create_or_get_global_tcp_store",
    ),
    "gt.minimize with ClipGradByValue": ("nn.clip.ClipGradBase._pir_clip",),
    "checkpoints": ("base.core.default_cpu_generator",),
}


@rule("GT056")
def unseen_paddle(release: str, missing: Mapping[str, tuple[str, ...]]) -> Diagnostic:
    """The installed Paddle is newer than graphtool knows and lacks names that it needs.

    graphtool needs some private names of Paddle. Those that are gone are listed with what does not
    work without them; everything else works as before.
    """
    return Diagnostic(
        message=f"Paddle {release} lacks private names that graphtool needs",
        severity=Severity.WARNING,
        notes=tuple(f"{purpose} needs {listed(names, 20)}" for purpose, names in missing.items()),
        help="pip install -U graphtool",
    )


def is_unseen(release: str) -> bool:
    """Return whether a release is newer than those that graphtool was tested with."""
    numbers = release.split(".")[:2]
    return all(map(str.isdecimal, numbers)) and tuple(map(int, numbers)) > _NEWEST_SEEN


def missing_names(paddle: Any) -> Mapping[str, tuple[str, ...]]:
    """Return the private names that Paddle lacks, by what is not possible without them."""
    missing = {
        purpose: tuple(f"paddle.{name}" for name in names if not _has(paddle, name))
        for purpose, names in _NAMES.items()
    }
    return {purpose: names for purpose, names in missing.items() if names}


def _has(found: Any, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
