"""Pairs of two stacks of transformer layers, where the teacher's has k times as many."""

from __future__ import annotations

from tests.matching.families.cases import At, Expected, Place

__all__ = ["attention", "hidden"]


def hidden(
    teacher: tuple[str, int], student: tuple[str, int], start: tuple[Place, Place]
) -> tuple[Expected, ...]:
    """Return hidden state i·k against i, the last first; 0 is the embeddings."""
    every = teacher[1] // student[1]
    return (
        *(
            Expected(
                "hidden_state",
                At(f"{teacher[0]}.{index * every - 1}"),
                At(f"{student[0]}.{index - 1}"),
                f"hidden state {index * every} of {teacher[1]} against {index} of {student[1]}",
            )
            for index in range(student[1], 0, -1)
        ),
        Expected("hidden_state", *start, "hidden state 0 of both: the embeddings"),
    )


def attention(
    teacher: tuple[str, int, tuple[At, ...]], student: tuple[str, int, tuple[At, ...]]
) -> tuple[Expected, ...]:
    """Return the scores before softmax of layer i·k + k − 1 against layer i, the last first."""
    every = teacher[1] // student[1]

    def of(net: tuple[str, int, tuple[At, ...]], index: int) -> Place:
        path = f"{net[0]}.{index}"
        return tuple(At(f"{path}.{at.layer}" if at.layer else path, at.op, at.nth) for at in net[2])

    return tuple(
        Expected(
            "attention",
            of(teacher, index * every + every - 1),
            of(student, index),
            f"attention scores of layer {index * every + every - 1} against {index}",
        )
        for index in range(student[1] - 1, -1, -1)
    )
