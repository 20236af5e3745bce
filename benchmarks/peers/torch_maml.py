"""Second-order MAML in PyTorch, in its three usual forms.

The networks and the loops are those of pytorch's `functorch/examples/maml_omniglot`:
plain autograd over one task after another, the same through `higher`, and
`torch.func` vmapped over the tasks. Weights and data come from the JAX side.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

__all__ = ["FORMS", "Network", "Weights", "network"]

Weights = dict[str, torch.Tensor]
Tasks = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Of all tasks: x and y of the support, x and y of the query."""


class Network(NamedTuple):
    """What the network is made of.

    Attributes:
      blocks: of each convolution: channels in and out.
      stride: of the convolutions.
      same: whether rows and columns of zeros are padded as TensorFlow does.
      pool: whether a block ends with 2 by 2 max-pooling.
      average: whether the head sees the mean over positions.
      epsilon: of batch normalisation.
      features, num_classes: of the head.
    """

    blocks: Sequence[tuple[int, int]]
    stride: int
    same: bool
    pool: bool
    average: bool
    epsilon: float
    features: int
    num_classes: int


class Same(nn.Module):
    """TensorFlow's padding for 3 by 3 kernels: more after than before."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad height and width."""
        sizes = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // self.stride) - 1) * self.stride + 3 - size, 0)
            sizes += [total // 2, total - total // 2]
        return functional.pad(x, sizes)


class Average(nn.Module):
    """The mean over positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Average height and width."""
        return x.mean((2, 3), keepdim=True)


class Normalisation(nn.Module):
    """`nn.BatchNorm2d` written out, with the statistics of the batch.

    PyTorch's own, once vmapped, has a second derivative that is wrong by about 0.002
    (2.13), at any precision.
    """

    def __init__(self, channels: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise each channel."""
        away = x - x.mean((0, 2, 3), keepdim=True)
        variance = away.square().mean((0, 2, 3), keepdim=True)
        unit = away / torch.sqrt(variance + self.epsilon)
        return unit * self.weight[:, None, None] + self.bias[:, None, None]


def network(shape: Network, *, exact: bool) -> nn.Module:
    """A module; batch normalisation takes the statistics of the batch, and keeps none.

    Args:
      shape: of what it is made.
      exact: whether normalisation is written out, which is right in all forms and
        slower, or PyTorch's own, as published.
    """
    layers: list[nn.Module] = []
    for inside, outside in shape.blocks:
        if shape.same:
            layers.append(Same(shape.stride))
        layers += [
            nn.Conv2d(inside, outside, 3, shape.stride, bias=False),
            Normalisation(outside, shape.epsilon)
            if exact
            else nn.BatchNorm2d(outside, eps=shape.epsilon, track_running_stats=False),
            nn.ReLU(),
        ]
        if shape.pool:
            layers.append(nn.MaxPool2d(2, 2))
    if shape.average:
        layers.append(Average())
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(shape.features, shape.num_classes)
    )


def _loop(
    module: nn.Module, weights: Weights, tasks: Tasks, rate: float, num_steps: int
) -> Weights:
    """One task after another; each leaves its gradient before the next begins."""
    start = {k: w.detach().requires_grad_() for k, w in weights.items()}
    count = len(tasks[0])
    for xs, ys, xq, yq in zip(*tasks):
        fast = start
        for _ in range(num_steps):
            loss = functional.cross_entropy(functional_call(module, fast, (xs,)), ys)
            grads = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {k: w - rate * g for (k, w), g in zip(fast.items(), grads)}
        loss = functional.cross_entropy(functional_call(module, fast, (xq,)), yq)
        (loss / count).backward()
    return {k: w.grad for k, w in start.items() if w.grad is not None}


def _func(
    module: nn.Module, weights: Weights, tasks: Tasks, rate: float, num_steps: int
) -> Weights:
    """All tasks at once."""

    def judged(fast: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(module, fast, (x,)), y)

    def adapted(start: Weights, xs: Any, ys: Any, xq: Any, yq: Any) -> torch.Tensor:
        fast = start
        for _ in range(num_steps):
            grads = grad(judged)(fast, xs, ys)
            fast = {k: w - rate * grads[k] for k, w in fast.items()}
        return judged(fast, xq, yq)

    def mean(start: Weights) -> torch.Tensor:
        return vmap(adapted, in_dims=(None, 0, 0, 0, 0))(start, *tasks).mean()

    return grad(mean)(weights)


def _higher(
    module: nn.Module, weights: Weights, tasks: Tasks, rate: float, num_steps: int
) -> Weights:
    """`higher` on one task after another, which keeps a copy of the module."""
    import higher

    module.load_state_dict(weights)
    module.zero_grad()
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    count = len(tasks[0])
    for xs, ys, xq, yq in zip(*tasks):
        with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False) as (
            fast,
            inner,
        ):
            for _ in range(num_steps):
                inner.step(functional.cross_entropy(fast(xs), ys))
            (functional.cross_entropy(fast(xq), yq) / count).backward()
    return {k: w.grad for k, w in module.named_parameters() if w.grad is not None}


FORMS: dict[str, Callable[..., Weights]] = {
    "torch_loop": _loop,
    "torch_func": _func,
    "higher": _higher,
}
"""By name: `(module, weights, tasks, rate, num_steps) -> meta-gradient`."""
