"""What operators do: one table of facts, with one kind for PIR and legacy spellings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Generic, TypeVar

from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.graph import Attribute, Graph, Operator

__all__ = [
    "ACTIVATIONS",
    "AFTER_LOGITS",
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "IDENTITIES",
    "JOINS",
    "LEGACY_PORTS",
    "METRICS",
    "NORMS",
    "PIR_FEEDS",
    "PIR_FETCHES",
    "POOLS",
    "PROBABILITIES",
    "PRODUCTS",
    "RANDOM",
    "RECURRENT",
    "REDUCTIONS",
    "RESHAPES",
    "RESIZES",
    "STACK_PUSHES",
    "TEST_MODE",
    "VIEWS",
    "ZERO_GRADIENT",
    "Probabilities",
    "depends_on_mode",
    "ends_in_activation",
    "fetched_value",
    "has_side_effects",
    "integers",
    "integers_of",
    "is_custom",
    "is_loss",
    "is_loss_or_metric",
    "is_optimizer",
    "is_training",
    "is_training_type",
    "kind_of",
    "kind_of_type",
    "logits_of",
    "numbers",
    "statistics_of",
    "unknown_operators",
    "unsupported_operators",
    "written_operand",
]

_Value = TypeVar("_Value")

# Legacy kinds whose PIR spelling differs by more than `elementwise_` or `_v2`.
_PIR_KINDS = {
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
# What may follow the logits on the way to an output. Dropout is not part of a head.
AFTER_LOGITS = (
    RESIZES | (IDENTITIES - {"dropout"}) | PROBABILITIES | {"argmax", "arg_max", "topk", "top_k"}
)
# Computed from a prediction and a label, but not differentiated.
METRICS = frozenset({"accuracy", "auc"})
# Losses whose types do not end in `_loss`.
_LOSSES = frozenset({"linear_chain_crf", "warpctc", "warprnnt"})
# Attributes that name the activation fused into an Operator.
_FUSED_ACTIVATION = ("activation", "activation_type", "fuse_activation", "act_type")
# Bits of `op_role`: backward, optimize, learning-rate schedule. PIR programs carry no role.
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
# They draw random numbers in every run, in test mode too.
RANDOM = frozenset(
    {
        "bernoulli",
        "binomial",
        "class_center_sample",
        "dirichlet",
        "exponential",
        "gaussian",
        "gaussian_inplace",
        "gaussian_random",
        "gaussian_random_batch_size_like",
        "gumbel_softmax",
        "multinomial",
        "nce",
        "poisson",
        "randint",
        "random_crop",
        "randperm",
        "sampling_id",
        "shuffle_batch",
        "standard_gamma",
        "top_p_sampling",
        "truncated_gaussian_random",
        "uniform",
        "uniform_inplace",
        "uniform_random",
        "uniform_random_batch_size_like",
        "uniform_random_inplace",
    }
)
# They behave differently in training. Legacy convolutions, pools and activations have `is_test`
# too, but ignore it.
_MODE_DEPENDENT = frozenset(
    {
        "batch_norm",
        "cudnn_lstm",
        "dropout",
        "dropout_nd",
        "fused_attention",
        "fused_bias_dropout_residual_layer_norm",
        "fused_dropout_add",
        "fused_feedforward",
        "rnn",
        "rrelu",
    }
)
# The attributes of which one puts an operator into test mode.
TEST_MODE = ("is_test", "use_global_stats")
BATCH_NORMS = frozenset({"batch_norm", "sync_batch_norm"})
# In-place operators that return a view of the same elements.
VIEWS = frozenset({"flatten", "reshape", "share_data", "squeeze", "unsqueeze"})
# The index of the operand that an in-place operator writes, if it is not the first.
_WRITTEN_INDEX = {"assign_out": 1}
# In-place operators that write their own state and no operand that they compute with: running
# statistics, counts.
_WRITES_STATE = BATCH_NORMS | {"auc"}
# Their gradient is zero: the results are step functions, or depend on a shape only.
ZERO_GRADIENT = frozenset(
    {"ceil", "floor", "floor_divide", "full_like", "ones_like", "round", "sign", "trunc"}
    | {"fill_any_like", "zeros_like"}
)
# Types of the operators that stand for feeds and fetches.
LEGACY_PORTS = frozenset({"feed", "fetch"})
PIR_FEEDS = frozenset({"pd_op.data", "pd_op.feed"})
PIR_FETCHES = frozenset({"pd_op.fetch", "builtin.shadow_output"})
# Branches and loops save with these what their gradients read.
STACK_PUSHES = frozenset({"cf.tuple_push"})
# Operators with side effects: they access files, run Python, load an engine or communicate.
_SIDE_EFFECTS = frozenset(
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
# Slots of a legacy batch norm, and the operands of PIR's, which has no slots.
_STATISTICS_SLOTS = ("Mean", "Variance")
_STATISTICS_OPERANDS = slice(1, 3)
# They change the shape or dtype, and no element.
_ELEMENT_PRESERVING = frozenset(
    {"assign", "cast", "flatten", "reshape", "squeeze", "transpose", "unsqueeze"}
)
_NORMALISING = {
    "softmax": "softmax",
    "softmax_with_cross_entropy": "softmax",
    "cross_entropy_with_softmax": "softmax",
    "sigmoid": "sigmoid",
}


def kind_of(operator: Operator) -> str:
    """Return the canonical kind of an operator: `elementwise_add` and `add_` are `add`."""
    return kind_of_type(operator.type)


@lru_cache(maxsize=4096)
def kind_of_type(type: str) -> str:
    """Return the canonical kind of an operator type."""
    if type == "sum":
        return "add"
    kind = type.rpartition(".")[2].rstrip("_").removesuffix("_v2")
    return _PIR_KINDS.get(kind, kind.removeprefix("elementwise_"))


def ends_in_activation(operator: Operator) -> bool:
    """Return whether an activation is fused into an Operator, which hides the Value before it."""
    names = (operator.attributes.get(attribute) for attribute in _FUSED_ACTIVATION)
    return any(name not in (None, "", "identity") for name in names)


def is_loss(kind: str) -> bool:
    """Return whether an operator kind compares a prediction with a label."""
    has_loss_name = kind.endswith("_loss") and kind not in IDENTITIES
    return has_loss_name or "cross_entropy" in kind or kind in _LOSSES


def is_loss_or_metric(kind: str) -> bool:
    """Return whether an operator kind is a loss or a metric: its first operand is a prediction."""
    return is_loss(kind) or kind in METRICS


def is_custom(operator: Operator) -> bool:
    """Return whether an operator is not Paddle's, so that it may do anything."""
    return operator.type.startswith(("custom_op.", "dialect"))


def has_side_effects(operator: Operator) -> bool:
    """Return whether running an operator has side effects outside the program."""
    return operator.kind.rstrip("_") in _SIDE_EFFECTS


def depends_on_mode(operator: Operator) -> bool:
    """Return whether an operator behaves differently in training: quantisation observers do too."""
    if "is_test" not in operator.attributes:
        return False
    kind = kind_of(operator)
    return kind in _MODE_DEPENDENT or kind.startswith("fake_")


def written_operand(operator: Operator) -> str | None:
    """Return the operand that an in-place operator of PIR overwrites, or None."""
    if not operator.type.endswith("_") or operator.kind in _WRITES_STATE:
        return None
    index = _WRITTEN_INDEX.get(operator.kind, 0)
    return operator.operands[index] if index < len(operator.operands) else None


def is_training(operator: Operator) -> bool:
    """Return whether an operator is of the backward pass or an optimizer, by its role or type."""
    return bool(operator.role & _TRAINING_ROLES) or is_training_type(operator.type)


@lru_cache(maxsize=4096)
def is_training_type(type: str) -> bool:
    """Return whether an operator type is a gradient or an optimizer."""
    kind = type.rpartition(".")[2].rstrip("_")
    return kind.endswith("_grad") or kind in _OPTIMIZERS


def is_optimizer(operator: Operator) -> bool:
    """Return whether an operator is an optimizer's parameter update."""
    return operator.kind in _OPTIMIZERS


def statistics_of(operator: Operator) -> Iterator[str]:
    """Yield the running mean and variance of a batch norm: stored as parameters, but not learned.

    Legacy programs name their slots; in PIR they are the second and third operand.
    """
    if kind_of(operator) != "batch_norm":
        return
    if not operator.slots:
        yield from (name for name in operator.operands[_STATISTICS_OPERANDS] if name is not None)
        return
    for slot, name in zip(operator.slots, operator.operands, strict=True):
        if slot in _STATISTICS_SLOTS and name is not None:
            yield name


def integers_of(
    graph: Graph, operator: Operator, *attributes: str, operand: int = 1
) -> tuple[int, ...]:
    """Return the integers of the first of these attributes that has any, else a constant operand's.

    PIR turned many attributes into operands.
    """
    for attribute in attributes:
        found = integers(operator.attributes.get(attribute))
        if found:
            return found
    name = operator.operands[operand] if len(operator.operands) > operand else None
    producer = None if name is None else graph.producer(name)
    return () if producer is None else integers(producer.attributes.get("value"))


def integers(value: Attribute) -> tuple[int, ...]:
    """Return the integers of an attribute: one, or those of a tuple."""
    items = value if isinstance(value, tuple) else (value,)
    return tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool))


def numbers(value: Attribute) -> tuple[float, ...]:
    """Return the finite numbers of an attribute: one, or those of a tuple."""
    items = value if isinstance(value, tuple) else (value,)
    floats = (float(item) for item in items if isinstance(item, (int, float)))
    return tuple(number for number in floats if isfinite(number))


@dataclass(frozen=True, slots=True)
class Probabilities(Generic[_Value]):
    """Logits, and the function that turned them into probabilities: `softmax` or `sigmoid`."""

    function: str
    logits: _Value


def logits_of(
    value: _Value, producer: Callable[[_Value], tuple[str, _Value] | None]
) -> Probabilities[_Value] | None:
    """Return the logits that a Value is the softmax or sigmoid of, or None.

    `producer` returns the kind of operator that produces a Value, and its first operand. Works on
    a Graph and on a live Program.
    """
    made = producer(value)
    while made is not None and made[0] in _ELEMENT_PRESERVING:
        made = producer(made[1])
    if made is None or made[0] not in _NORMALISING:
        return None
    kind, logits = made
    return Probabilities(_NORMALISING[kind], logits)


_FETCH_KINDS = frozenset({"fetch", "shadow_output"})


def fetched_value(graph: Graph, name: str) -> str:
    """Return the operand of the fetch operator that produces a Value, or the name unchanged.

    A merge drops the teacher's fetches. In a translated legacy Program an output's legacy name is
    that of the fetch's result.
    """
    producer = graph.producer(name)
    operand = producer.operands[0] if producer and producer.kind in _FETCH_KINDS else None
    return name if operand is None else operand


# The dialects that are part of PIR itself.
_BUILT_IN = ("builtin.", "cf.")


def unsupported_operators(graph: Graph, known: frozenset[str]) -> list[Operator]:
    """Return the Operators whose types are not in `known`, the result of `known_operators`."""
    return [
        operator
        for operator in graph.operators.values()
        if operator.type not in known and not operator.type.startswith(_BUILT_IN)
    ]


@rule("GT244", replaces=("GT045",))
def unknown_operators(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: tuple[Where, ...] = (),
    notes: tuple[str, ...] = (),
    help: str = 'paddle.utils.cpp_extension.load(name="my_ops", sources=[...])  # first',
) -> Diagnostic:
    """A network has operators that the installed Paddle does not know.

    They are custom operators, whose library must be loaded first, or operators of another release
    or of an inference engine (fused, quantised). A saved model with such operators is not opened:
    Paddle would abort the process.
    """
    return Diagnostic(message=message, severity=severity, where=where, notes=notes, help=help)
