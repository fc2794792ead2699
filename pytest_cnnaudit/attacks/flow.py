"""The conveyor of every iterative attack: samples whose fate is decided leave, waiting ones take their places."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What an attack knows of the samples in work: tensors of N rows each. The answer so far is under ``"result"``, and
under ``"fooled"`` whether it is known to fool, N bool."""

Start = Callable[[Tensor], State]
"""The state of samples that enter, from their positions (N integers)."""

Step = Callable[[State], tuple[State, Tensor]]
"""One step, in which each sample passes through the model once (or a fixed number of times): the new state, and which
samples are done, N bool. A sample's new state may depend on its own row alone."""


def flow(
    count: int, start: Start, step: Step, *, at_once: int | None = None, also: tuple[str, ...] = ()
) -> tuple[Tensor, ...]:
    """Run `step` on at most `at_once` of `count` samples at a time until all are done.

    As samples leave, waiting ones enter at their own first step, so that the device stays full until none is left. Each
    sample sees the same steps whatever its company is: the batch changes how fast an attack is, never what it finds.

    Returns:
        The ``"result"`` of each sample, in order, whether it is known to fool, and what else of its state is asked for.
    """
    room = at_once or max(count, 1)
    entered = min(room, count)
    index = torch.arange(entered)
    state = start(index)
    answers = {
        name: torch.empty((count, *state[name].shape[1:]), dtype=state[name].dtype, device=state[name].device)
        for name in ("result", "fooled", *also)
    }
    while len(index):
        state, done = step(state)
        leaving = done.nonzero()[:, 0]
        if not len(leaving):
            continue
        for name, values in answers.items():
            values[index.to(done.device)[leaving]] = state[name][leaving]
        staying = (~done).nonzero()[:, 0]
        state = {name: values[staying] for name, values in state.items()}
        index = index[staying.cpu()]
        # Entering costs a copy of the state, so it waits until a quarter of the places are free.
        if entered < count and 4 * len(index) <= 3 * room:
            fresh = torch.arange(entered, min(count, entered + room - len(index)))
            entered += len(fresh)
            began = start(fresh)
            state = {name: torch.cat([values, began[name]]) for name, values in state.items()}
            index = torch.cat([index, fresh])
    return tuple(answers.values())
