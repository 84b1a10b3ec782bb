"""Networks whose paths part and meet: CSPNet, DarkNet, Inception-ResNet, DLA, HRNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.layers import ConvBNLayer
from tests.matching.families.residual import BasicBlock

__all__ = ["DLA", "CSPNet", "DarkNet19", "HRNet", "InceptionResNet"]

# The heights and widths of the kernels in each branch, behind its first convolution.
_Branches: TypeAlias = "Sequence[Sequence[tuple[int, int]]]"


class _Dark(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvBNLayer(width, width, 1, act="leaky_relu")
        self.conv2 = ConvBNLayer(width, width, 3, act="leaky_relu")

    def forward(self, x: Any) -> Any:
        return x + self.conv2(self.conv1(x))


class _CrossStage(nn.Layer):
    """Down, expand, cut in two; one half goes through the blocks; join and mix."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        half = width // 2
        self.conv_down = ConvBNLayer(channels, width, 3, 2, act="leaky_relu")
        self.conv_exp = ConvBNLayer(width, width, 1, act="leaky_relu")
        self.blocks = nn.Sequential(*[_Dark(half) for _ in range(depth)])
        self.transition_b = ConvBNLayer(half, half, 1, act="leaky_relu")
        self.transition = ConvBNLayer(width, width, 1, act="leaky_relu")

    def forward(self, x: Any) -> Any:
        left, right = paddle.split(self.conv_exp(self.conv_down(x)), 2, axis=1)
        right = self.transition_b(self.blocks(right))
        return self.transition(paddle.concat([left, right], axis=1))


class CSPNet(nn.Layer):
    """CSPDarkNet as a classifier: five cross-stage partial stages from 1/2 to 1/32."""

    def __init__(self, depths: Sequence[int] = (1, 1, 3, 3, 2), classes: int = 10) -> None:
        super().__init__()
        self.stem = ConvBNLayer(3, 8, 3, act="leaky_relu")
        widths = (8, 8, 16, 24, 32, 48)
        self.stages = nn.LayerList(
            _CrossStage(before, after, depth)
            for (before, after), depth in zip(pairwise(widths), depths, strict=True)
        )
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.pool(x).flatten(1))


class DarkNet19(nn.Layer):
    """3×3 and 1×1 convolutions by turns, pooling between; a 1×1 classifier, then the mean."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stages = nn.LayerList()
        channels = 3
        for width, depth in ((4, 1), (4, 1), (8, 3), (12, 3), (16, 3), (24, 3)):
            convs: list[nn.Layer] = []
            for place in range(depth):
                out, kernel = (width, 3) if place % 2 == 0 else (width // 2, 1)
                convs.append(ConvBNLayer(channels, out, kernel, act="leaky_relu"))
                channels = out
            self.stages.append(nn.Sequential(*convs))
        self.pool = nn.MaxPool2D(2, 2)
        self.classifier = nn.Conv2D(channels, classes, 1)
        self.mean = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()

    def forward(self, x: Any) -> Any:
        for index, stage in enumerate(self.stages):
            x = stage(x if index == 0 else self.pool(x))
        return self.flatten(self.mean(self.classifier(x)))


class _ScaledInception(nn.Layer):
    """Branches of a 1×1 and further convolutions, a linear 1×1, and a sum with a small factor."""

    def __init__(self, channels: int, branches: _Branches, scale: float) -> None:
        super().__init__()
        self.scale, inner = scale, 12
        self.branches = nn.LayerList()
        for kernels in branches:
            rest = [_oblong(inner, rows, columns) for rows, columns in kernels]
            self.branches.append(nn.Sequential(ConvBNLayer(channels, inner, 1), *rest))
        self.linear = nn.Conv2D(inner * len(branches), channels, 1)

    def forward(self, x: Any) -> Any:
        y = paddle.concat([branch(x) for branch in self.branches], axis=1)
        return functional.relu(x + self.linear(y) * self.scale)


def _oblong(width: int, rows: int, columns: int) -> nn.Layer:
    padding = (rows // 2, columns // 2)
    return nn.Sequential(
        nn.Conv2D(width, width, (rows, columns), padding=padding, bias_attr=False),
        nn.BatchNorm2D(width),
        nn.ReLU(),
    )


class _Reduction(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2D(3, 2, 1)
        self.conv = ConvBNLayer(channels, width - channels, 3, 2)

    def forward(self, x: Any) -> Any:
        return paddle.concat([self.pool(x), self.conv(x)], axis=1)


class InceptionResNet(nn.Layer):
    """A stem down to 1/8, three kinds of residual Inception blocks, reductions between them."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNLayer(3, 8, 3, 2), ConvBNLayer(8, 8, 3), nn.MaxPool2D(3, 2, 1)
        )
        self.mixed_5b = ConvBNLayer(8, 24, 3, 2)
        self.repeat = self._blocks(2, 24, ((), ((3, 3),), ((3, 3), (3, 3))), 0.17)
        self.mixed_6a = _Reduction(24, 48)
        self.repeat_1 = self._blocks(4, 48, ((), ((1, 7), (7, 1))), 0.1)
        self.mixed_7a = _Reduction(48, 80)
        self.repeat_2 = self._blocks(2, 80, ((), ((1, 3), (3, 1))), 0.2)
        self.conv2d_7b = ConvBNLayer(80, 96, 1)
        self.dropout = nn.Dropout(0.2)
        self.last_linear = nn.Linear(96, classes)

    @staticmethod
    def _blocks(count: int, channels: int, branches: _Branches, scale: float) -> nn.Layer:
        return nn.Sequential(*[_ScaledInception(channels, branches, scale) for _ in range(count)])

    def forward(self, x: Any) -> Any:
        x = self.repeat(self.mixed_5b(self.stem(x)))
        x = self.repeat_1(self.mixed_6a(x))
        x = self.conv2d_7b(self.repeat_2(self.mixed_7a(x)))
        x = functional.adaptive_avg_pool2d(x, 1).squeeze([2, 3])
        return self.last_linear(self.dropout(x))


class _Root(nn.Layer):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = ConvBNLayer(channels, width, 1)

    def forward(self, children: Sequence[Any]) -> Any:
        return self.conv(paddle.concat(list(children), axis=1))


class _Tree(nn.Layer):
    """Two blocks or two smaller trees, and a root that reads all that hang on it."""

    def __init__(
        self, levels: int, channels: int, width: int, stride: int, extra: int, *, enters: bool
    ) -> None:
        super().__init__()
        self.downsample = nn.MaxPool2D(stride, stride) if stride > 1 else None
        self.enters, self.levels = enters, levels
        root = 2 * width + extra + (channels if enters else 0)
        if levels == 1:
            self.tree1 = BasicBlock(channels, width, stride)
            self.tree2 = BasicBlock(width, width, 1)
            self.root = _Root(root, width)
        else:
            more = root - width
            self.tree1 = _Tree(levels - 1, channels, width, stride, 0, enters=False)
            self.tree2 = _Tree(levels - 1, width, width, 1, more, enters=False)

    def forward(self, x: Any, children: Sequence[Any] = ()) -> Any:
        bottom = x if self.downsample is None else self.downsample(x)
        hang = [*children, bottom] if self.enters else list(children)
        first = self.tree1(x)
        if self.levels == 1:
            return self.root([self.tree2(first), first, *hang])
        return self.tree2(first, [first, *hang])


class DLA(nn.Layer):
    """Deep layer aggregation: two plain levels, then trees at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, levels: Sequence[int] = (1, 2, 2, 1), classes: int = 10) -> None:
        super().__init__()
        self.base_layer = ConvBNLayer(3, 4, 7)
        self.level0, self.level1 = ConvBNLayer(4, 4, 3), ConvBNLayer(4, 8, 3, 2)
        for index, (before, after) in enumerate(pairwise((8, 8, 12, 12, 16))):
            tree = _Tree(levels[index], before, after, 2, 0, enters=index > 0)
            self.add_sublayer(f"level{index + 2}", tree)
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Conv2D(16, classes, 1)

    def forward(self, x: Any) -> Any:
        x = self.base_layer(x)
        for index in range(6):
            x = getattr(self, f"level{index}")(x)
        return self.fc(self.avgpool(x)).flatten(1)


class _Fuse(nn.Layer):
    """Each branch through its blocks, then every resolution the sum of all of them."""

    def __init__(self, widths: Sequence[int], depth: int, outs: int) -> None:
        super().__init__()
        self.branches = nn.LayerList(
            nn.Sequential(*[BasicBlock(width, width, 1) for _ in range(depth)]) for width in widths
        )
        self.outs = outs
        for out in range(outs):
            for source in range(len(widths)):
                if source != out:
                    self.add_sublayer(f"fuse_{out}_{source}", _exchange(widths, source, out))

    def forward(self, maps: Sequence[Any]) -> Any:
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        return [functional.relu(self._sum(maps, out)) for out in range(self.outs)]

    def _sum(self, maps: Sequence[Any], out: int) -> Any:
        total = maps[out]
        for source, x in enumerate(maps):
            if source != out:
                total = total + getattr(self, f"fuse_{out}_{source}")(x)
        return total


def _exchange(widths: Sequence[int], source: int, out: int) -> nn.Layer:
    if source > out:
        conv = ConvBNLayer(widths[source], widths[out], 1, act=None)
        return nn.Sequential(conv, nn.Upsample(scale_factor=2 ** (source - out), mode="nearest"))
    steps = [ConvBNLayer(widths[source], widths[source], 3, 2) for _ in range(out - source - 1)]
    return nn.Sequential(*steps, ConvBNLayer(widths[source], widths[out], 3, 2, act=None))


class HRNet(nn.Layer):
    """Resolutions side by side, one more in each stage; heatmaps of joints from the finest."""

    def __init__(self, width: int, depth: int, modules: Sequence[int], joints: int = 5) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBNLayer(3, 16, 3, 2), ConvBNLayer(16, 16, 3, 2)
        self.layer1 = nn.Sequential(*[BasicBlock(16, 16, 1) for _ in range(depth)])
        widths = [width * 2**index for index in range(4)]
        self.transition0 = ConvBNLayer(16, widths[0], 3)
        for stage, count in zip((2, 3, 4), modules, strict=True):
            before = 16 if stage == 2 else widths[stage - 2]
            self.add_sublayer(f"transition{stage}", ConvBNLayer(before, widths[stage - 1], 3, 2))
            fuses = [
                _Fuse(widths[:stage], depth, 1 if stage == 4 and index == count - 1 else stage)
                for index in range(count)
            ]
            self.add_sublayer(f"stage{stage}", nn.Sequential(*fuses))
        self.final_layer = nn.Conv2D(widths[0], joints, 1)

    def forward(self, x: Any) -> Any:
        x = self.layer1(self.conv2(self.conv1(x)))
        maps = self.stage2([self.transition0(x), self.transition2(x)])
        maps = self.stage3([*maps, self.transition3(maps[-1])])
        maps = self.stage4([*maps, self.transition4(maps[-1])])
        return self.final_layer(maps[0])
