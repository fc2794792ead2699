"""Networks and samples whose figures are known."""

import copy

import pytest
import torch
from torch import nn


@pytest.fixture
def untouched():
    """Checks a module against what it was when this was called: weights, buffers, modes, grads, hooks."""

    def state(module):
        return (
            copy.deepcopy(module.state_dict()),
            [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()],
            [(weight.requires_grad, weight.grad is None) for weight in module.parameters()],
            torch.get_rng_state(),
        )

    def remember(module):
        before = state(module)

        def check():
            after = state(module)
            assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
            assert before[1:3] == after[1:3]
            assert torch.equal(before[3], after[3])

        return check

    return remember


class Counting(nn.Module):
    """Counts the samples that pass through a module, forward and backward, from outside."""

    def __init__(self, module):
        super().__init__()
        self.module, self.forwards, self.backwards = module, 0, 0

    def forward(self, images):
        self.forwards += len(images)
        logits = self.module(images)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient):
        self.backwards += len(gradient)


@pytest.fixture
def counting():
    return Counting
