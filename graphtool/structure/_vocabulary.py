"""What operator types mean, the same for PIR and legacy spellings."""

from __future__ import annotations

from functools import lru_cache

from graphtool.graph import Operator

__all__ = [
    "ACTIVATIONS",
    "AROUND_ANSWERS",
    "CONVOLUTIONS",
    "IDENTITIES",
    "JOINS",
    "METRICS",
    "NORMS",
    "POOLS",
    "PROBABILITIES",
    "PRODUCTS",
    "RECURRENT",
    "REDUCTIONS",
    "RESHAPES",
    "RESIZES",
    "ends_in_activation",
    "is_loss",
    "is_told",
    "is_training",
    "is_training_type",
    "is_update",
    "kind_of",
    "kind_of_type",
    "reaches_outside",
]

# Legacy names whose PIR name differs by more than `elementwise_` or `_v2`.
_RENAMED = {
    "hard_swish": "hardswish",
    "hard_sigmoid": "hardsigmoid",
    "lookup_table": "embedding",
    "fill_constant": "full",
    "flatten_contiguous_range": "flatten",
    "mul": "matmul",
    "elementwise_mul": "multiply",
    "elementwise_div": "divide",
    "elementwise_sub": "subtract",
    "fc": "matmul",
    "grad_add": "add",
    "depthwise_conv2d": "conv2d",
    "depthwise_conv2d_transpose": "conv2d_transpose",
    "conv2d_fusion": "conv2d",
    "fused_conv2d_add_act": "conv2d",
    "sync_batch_norm": "batch_norm",
    "reduce_mean": "mean",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_sum": "sum",
    "reduce_prod": "prod",
    "pool3d": "pool2d",
    "reshape2": "reshape",
    "transpose2": "transpose",
    "squeeze2": "squeeze",
    "unsqueeze2": "unsqueeze",
    "flatten2": "flatten",
    "add_n": "add",
}

CONVOLUTIONS = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv2d_transpose", "conv3d_transpose", "deformable_conv"}
)
PRODUCTS = frozenset({"matmul", "bmm", "einsum", "addmm", "linear", "mv"})
RECURRENT = frozenset({"rnn", "lstm", "gru", "cudnn_lstm", "fusion_gru", "fusion_lstm"})
NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "norm"})
ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "swish",
        "mish",
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "brelu",
        "sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "clip",
    }
)
IDENTITIES = frozenset(
    {"dropout", "assign", "cast", "scale", "share_data", "memcpy", "identity_loss"}
)
RESHAPES = frozenset(
    {"reshape", "flatten", "squeeze", "unsqueeze", "transpose", "shuffle_channel", "view_shape"}
)
JOINS = frozenset({"add", "concat", "subtract", "maximum", "combine", "stack"})
POOLS = frozenset({"pool2d", "max_pool2d_with_index", "max_pool2d"})
RESIZES = frozenset({"nearest_interp", "bilinear_interp", "bicubic_interp", "linear_interp"})
REDUCTIONS = frozenset({"mean", "max", "min", "sum", "amax", "amin", "p_norm"})
PROBABILITIES = frozenset({"softmax", "log_softmax", "sigmoid"})
# What stands between logits and an output; dropout is no part of a head.
AROUND_ANSWERS = (
    RESIZES | (IDENTITIES - {"dropout"}) | PROBABILITIES | {"argmax", "arg_max", "topk", "top_k"}
)
# What is told of an answer; the answer is what it was told of.
METRICS = frozenset({"accuracy", "auc"})


# Attributes that name the activation which a fused Operator ends in.
_ACTIVATION_INSIDE = ("activation", "activation_type", "fuse_activation", "act_type")


def ends_in_activation(operator: Operator) -> bool:
    """Tell a fused Operator whose activation is part of it, so that nothing is before that."""
    named = (operator.attributes.get(name) for name in _ACTIVATION_INSIDE)
    return any(name not in (None, "", "identity") for name in named)


# Losses whose types do not end in `_loss`.
_LOSSES = frozenset({"linear_chain_crf", "warpctc", "warprnnt"})


def is_loss(kind: str) -> bool:
    """Tell an operator that compares an answer with a label, by its kind."""
    named = kind.endswith("_loss") and kind not in IDENTITIES
    return named or "cross_entropy" in kind or kind in _LOSSES


def is_told(kind: str) -> bool:
    """Tell a loss or a measure, which is told of its first operand, by its kind."""
    return is_loss(kind) or kind in METRICS


# Of `op_role`: backward, optimize, learning-rate schedule. PIR programs carry no role.
_TRAINING_ROLES = 0x1 | 0x2 | 0x10
_OPTIMIZERS = frozenset(
    {
        "adadelta",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "asgd",
        "decayed_adagrad",
        "ftrl",
        "fused_adam",
        "lamb",
        "lars_momentum",
        "merged_adam",
        "merged_momentum",
        "momentum",
        "nadam",
        "radam",
        "rmsprop",
        "rprop",
        "sgd",
    }
)


# What reads or writes files, runs Python, loads an engine, or talks to other processes.
_OUTSIDE = frozenset(
    {
        "create_double_buffer_reader",
        "create_py_reader",
        "dequeue",
        "distributed_lookup_table",
        "enqueue",
        "heter_listen_and_serv",
        "listen_and_serv",
        "lite_engine",
        "load",
        "load_combine",
        "openvino_engine",
        "p_recv",
        "p_recv_array",
        "p_send",
        "p_send_array",
        "partial_recv",
        "partial_send",
        "py_func",
        "read",
        "read_file",
        "recv_v2",
        "run_program",
        "save",
        "save_combine",
        "send",
        "send_and_recv",
        "send_v2",
        "tensorrt_engine",
    }
)


def reaches_outside(operator: Operator) -> bool:
    """Tell an operator that does more than compute when its program is run."""
    return operator.kind.rstrip("_") in _OUTSIDE


def is_training(operator: Operator) -> bool:
    """Tell a gradient or optimizer operator by its role or, as PIR has none, by its type."""
    if operator.role & _TRAINING_ROLES:
        return True
    return is_training_type(operator.type)


def is_update(operator: Operator) -> bool:
    """Tell an operator by which an optimizer writes parameters."""
    return operator.kind in _OPTIMIZERS


@lru_cache(maxsize=4096)
def is_training_type(type: str) -> bool:
    """Tell a gradient or optimizer operator by its type alone."""
    kind = type.rpartition(".")[2].rstrip("_")
    return kind.endswith("_grad") or kind in _OPTIMIZERS


def kind_of(operator: Operator) -> str:
    """Return the one name of what an operator does: `elementwise_add` and `add_` are `add`."""
    return kind_of_type(operator.type)


@lru_cache(maxsize=4096)
def kind_of_type(type: str) -> str:
    """Return the one name of what operators of a type do."""
    if type == "sum":
        return "add"
    kind = type.rpartition(".")[2].rstrip("_").removesuffix("_v2")
    return _RENAMED.get(kind, kind.removeprefix("elementwise_"))
