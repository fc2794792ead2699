"""Cascading randomisation: a copy of a network whose layers are re-initialised from the output down."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.seeds import derived_seed

_He = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Order(NamedTuple):
    """Names of the modules that have parameters of their own, or batch-norm's statistics.

    Attributes:
        layers: in the order in which they first ran. Each name is followed by those of modules inside it that never run
            themselves: `nn.MultiheadAttention` uses the weights of its `out_proj` without running it.
        idle: all others that never ran.
    """

    layers: tuple[tuple[str, ...], ...]
    idle: tuple[str, ...]


def copied(module: nn.Module) -> nn.Module:
    """A copy of the module, weights and all.

    Raises:
        AuditError: it cannot be copied.
    """
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise AuditError(
            f"{type(module).__name__} cannot be copied by copy.deepcopy ({error}), and only a copy's weights may be "
            "randomised; give its modules a __deepcopy__, or take out what cannot be copied."
        ) from error


def computation_order(run: Callable[[], object], module: nn.Module) -> Order:
    """In which order the modules that have parameters of their own run, whatever the order of their registration.

    A module that runs several times has the place of its first run: what lies below that is still trained when its turn
    comes.

    Args:
        run: a forward pass of the module.
        module: the whole network.
    """
    names = {part: name for name, part in module.named_modules() if _learns(part)}
    ran: dict[str, list[str]] = {}

    def starts(part: nn.Module, _inputs: Any) -> None:
        ran.setdefault(names[part], [names[part]])

    # Before a module rather than after it: what a block has of its own, beside the layers in it, counts with its start.
    handles = [part.register_forward_pre_hook(starts) for part in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    idle: list[str] = []
    for name in names.values():
        if name not in ran:
            around = [each for each in ran if not each or name.startswith(f"{each}.")]
            (ran[max(around, key=len)] if around else idle).append(name)
    return Order(tuple(map(tuple, ran.values())), tuple(idle))


def cut_points(layers: int, stages: int) -> list[int]:
    """How many layers are re-initialised at each stage: the last one alone, evenly on, and in the end all of them.

    >>> cut_points(3, 8), cut_points(20, 5)
    ([1, 2, 3], [1, 6, 11, 15, 20])
    """
    if layers <= stages or stages < 2:
        return list(range(1, layers + 1)) if layers <= stages else [layers]
    return [1 + round(step * (layers - 1) / (stages - 1)) for step in range(stages)]


class Cascade:
    """A network, of which as many layers as wanted are re-initialised, from the output down.

    Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1, cascading randomization. A layer that has been
    re-initialised keeps the values it was given while those below follow. They are drawn once, so that going from one
    stage to another copies nothing; two sets of weights are held beside the user's.

    Modules are re-initialised by their own `reset_parameters()`, batch-norm's running statistics with its weights. That
    of torch's convolutions and linear layers divides the variance by six from layer to layer: with nothing to normalise
    it, a SqueezeNet of 26 layers then told images apart by less than its logits' rounding. So they get He's variance
    2 / fan-in and no bias, which keeps it (He et al. 2015, "Delving Deep into Rectifiers", equation 12). What is left
    as it was, and what has no `reset_parameters()`, is drawn from a normal distribution with the mean and standard
    deviation that it had.

    Args:
        module: is left alone.
        layers: from the input to the output; each the names of the modules that it is made of, see `Order`.
        seed: what is drawn follows from it and from a module's name.

    Attributes:
        module: the copy.

    Raises:
        AuditError: the module cannot be copied.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Sequence[str]], seed: int) -> None:
        self.module = copied(module)
        other = copied(module).cpu()  # where the same is drawn whatever the device
        parts, fresh = dict(self.module.named_modules()), dict(other.named_modules())
        self._layers: list[list[_Values]] = []
        for names in reversed(layers):
            values = []
            for name in names:
                trained = [tensor.detach().clone() for tensor in _own(parts[name])]
                reinitialise(fresh[name], derived_seed(seed, name))
                drawn = [new.to(old.device, copy=True) for new, old in zip(_own(fresh[name]), trained, strict=True)]
                values.append(_Values(parts[name], trained, drawn))
            self._layers.append(values)

    def __len__(self) -> int:
        return len(self._layers)

    @torch.no_grad()
    def to(self, count: int) -> None:
        """Have the last `count` layers re-initialised, and no others."""
        # From the input on, so that of a weight that two layers share, the one nearer to the output decides.
        for place, layer in reversed(list(enumerate(self._layers))):
            for values in layer:
                new = values.fresh if place < count else values.trained
                for tensor, value in zip(_own(values.part), new, strict=True):
                    tensor.copy_(value)


class _Values(NamedTuple):
    part: nn.Module
    trained: list[Tensor]
    fresh: list[Tensor]


@torch.no_grad()
def reinitialise(module: nn.Module, seed: int) -> None:
    """Draw anew the parameters and statistics that a module on the CPU holds itself, not those of modules inside it.

    See `Cascade`.
    """
    before = [tensor.clone() for tensor in _own(module, buffers=False)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and no GPU's
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            with suppress(TypeError):  # one that wants arguments
                reset()
        if isinstance(module, _He) and isinstance(module._parameters.get("weight"), Tensor):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for tensor, old in zip(_own(module, buffers=False), before, strict=True):
            if torch.equal(tensor, old):
                values = old.double()
                drawn = torch.randn(old.shape, dtype=torch.float64)
                tensor.copy_(values.mean() + values.std(correction=0) * drawn)


def _own(module: nn.Module, *, buffers: bool = True) -> list[Tensor]:
    """The parameters, and the buffers, that are registered in the module itself."""
    found: list[Tensor] = list(module.parameters(recurse=False))
    return found + (list(module.buffers(recurse=False)) if buffers else [])


def _learns(module: nn.Module) -> bool:
    return bool(_own(module, buffers=False)) or getattr(module, "running_mean", None) is not None
