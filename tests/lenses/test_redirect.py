"""The gradient that a switched-off ReLU passes, by hand, however it is called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pytest_cnnaudit.lenses.redirect import RedirectedRelu

# Of three samples, one is partly on, two are off.
GIVEN = torch.tensor([[1.0, -2.0, -3.0], [-1.0, -2.0, -4.0], [-1.0, -1.0, 0.0]])
ARRIVES = torch.tensor([[5.0, 7.0, -1.0], [5.0, -7.0, 0.5], [-1.0, -2.0, -3.0]])
PLAIN = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
REDIRECTED = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.5], [0.0, 0.0, 0.0]])

RELUS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "function in place": lambda x: F.relu(x, inplace=True),
    "function in place by position": lambda x: F.relu(x, True),
    "by name": lambda x: F.relu(input=x),
    "torch": torch.relu,
    "torch in place": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "on a view in place": lambda x: x.view(-1, 3).relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by position": lambda x: torch.clamp(x, 0.0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "clip": lambda x: torch.clip(x, min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min in place": lambda x: torch.clamp_min_(x, 0),
    "module 6": nn.ReLU6(),
    "module 6 in place": nn.ReLU6(inplace=True),
    "function 6": F.relu6,
    "function 6 in place": lambda x: F.relu6(x, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "clamp 6": lambda x: x.clamp(0, 6),
}
OTHERS = {
    "image range": lambda x: x.clamp(0, 1),
    "from -1": lambda x: x.clamp(min=-1),
    "from above": lambda x: x.clamp(max=0),
    "tensors": lambda x: x.clamp(min=torch.zeros(())),
    "hardtanh": F.hardtanh,
    "leaky": nn.LeakyReLU(),
    "gelu": nn.GELU(),
}


def gradient(call, given=GIVEN, arrives=ARRIVES, *, redirect=True):
    """What the call answers, and what it passes of the gradient that arrives."""
    source = given.clone().requires_grad_()
    before = source * 1  # no leaf, so that it can be changed in place
    if redirect:
        with RedirectedRelu():
            answer = call(before)
    else:
        answer = call(before)
    return answer.detach(), *torch.autograd.grad(answer, source, arrives)


@pytest.mark.parametrize("call", RELUS.values(), ids=RELUS.keys())
def test_a_sample_that_passes_nothing_passes_what_raises_it(call):
    answer, passed = gradient(call)
    assert torch.equal(answer, GIVEN.clamp(min=0))
    assert torch.equal(passed, REDIRECTED)
    assert torch.equal(gradient(call, redirect=False)[1][:2], PLAIN[:2])


@pytest.mark.parametrize("name", ["module 6", "module 6 in place", "function 6", "function 6 in place", "clamp 6"])
def test_above_the_bound_of_a_relu6_passes_what_lowers_it(name):
    given = torch.tensor([[9.0, 8.0, -1.0, -1.0], [9.0, 3.0, -1.0, -1.0]])
    arrives = torch.tensor([[-1.0, 2.0, 3.0, -4.0]]).repeat(2, 1)
    answer, passed = gradient(RELUS[name], given, arrives)
    assert answer.tolist() == [[6, 6, 0, 0], [6, 3, 0, 0]]
    assert passed.tolist() == [[-1, 0, 3, 0], [0, 2, 0, 0]]


@pytest.mark.parametrize("name", ["module in place", "method in place", "clamp in place", "module 6 in place"])
def test_in_place_it_is_the_input_that_is_changed(name):
    given = GIVEN.clone()
    with RedirectedRelu():
        answer = RELUS[name](given)
    assert answer.data_ptr() == given.data_ptr()
    assert torch.equal(given, GIVEN.clamp(min=0))


@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_relu_is_left_alone(call):
    for inside, outside in zip(gradient(call), gradient(call, redirect=False), strict=True):
        assert torch.equal(inside, outside)


def test_each_layer_of_a_network_decides_for_itself():
    """The first layer is on and passes as always; the second is off for one sample."""
    net = nn.Sequential(nn.ReLU(), nn.Linear(2, 1, bias=False), nn.ReLU())
    nn.init.ones_(net[1].weight)
    with torch.no_grad():
        net[1].weight[0, 1] = -3
    images = torch.tensor([[1.0, 1.0], [3.0, 0.5]], requires_grad=True)  # 1 − 3 < 0 and 3 − 1.5 > 0
    with RedirectedRelu():
        (slope,) = torch.autograd.grad(net(images).sum(), images)
    assert slope.tolist() == [[1, -3], [1, -3]]


def test_nothing_stays_behind():
    with pytest.raises(ValueError, match="inside"), RedirectedRelu():
        raise ValueError("inside")
    assert torch._C._len_torch_function_stack() == 0
    assert "ReluBackward" in type(F.relu(torch.ones(1, requires_grad=True)).grad_fn).__name__
