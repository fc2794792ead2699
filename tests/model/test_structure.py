"""What a module does with its weights: its structure is the same in every process, its outputs are alike in all."""

import copy
import functools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.model.digest import digest
from pytest_cnnaudit.model.structure import alike, outputs, structure

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def made(code, name="Net", **names):
    """The class of that name, as the code says."""
    space = {"nn": nn, "torch": torch, "functools": functools, "__name__": "suite", **names}
    exec(textwrap.dedent(code), space)
    return space[name]


NET = """
class Net(nn.Module):
    sharpness = 2.0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.scale = 3
        self.sizes = (1, [2, 3], {"a": True})

    def forward(self, x, power=1, *, turn=False):
        return self.head(self.half(self.drop(self.act(self.conv(x)))).mean((2, 3)))

    def half(self, x):
        return x * 0.5
"""


def net(code=NET):
    torch.manual_seed(0)
    return made(code)()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nn.ReLU()", "nn.GELU()"),
        ("nn.ReLU()", "nn.ReLU(inplace=True)"),
        ("Dropout(0.5)", "Dropout(0.25)"),
        ("stride=2", "stride=1"),
        ("padding=1", "padding=1, padding_mode='reflect'"),
        ("self.scale = 3", "self.scale = 4"),
        ("self.scale = 3", "self.scale = 3.0"),
        ("self.scale = 3", "self.power = 3"),
        ("self.scale = 3", "self.scale = nn.functional.relu"),
        ('{"a": True}', '{"a": False}'),
        ("[2, 3]", "[2, 4]"),
        ("self.act = nn.ReLU()", "self.activation = self.act = nn.ReLU()"),
        ("sharpness = 2.0", "sharpness = 2.5"),
        ("x * 0.5", "x / 0.5"),
        ("x * 0.5", "x * 0.25"),
        ("x * 0.5", "x.detach() * 0.5"),
        (".mean((2, 3))", ".amax((2, 3))"),
        ("power=1", "power=2"),
        ("turn=False", "turn=True"),
        ("Net", "Other"),
    ],
)
def test_what_it_computes_with_counts(before, after):
    assert NET.count(before)
    code = NET.replace(before, after)
    torch.manual_seed(0)
    assert structure(made(code, after if before == "Net" else "Net")()) != structure(net())


def test_neither_weights_nor_modes_nor_what_was_done_with_it_count():
    module = net()
    before = structure(module)
    assert before == structure(net()) == structure(copy.deepcopy(module)) == structure(made(NET)())
    assert len(before) == 16
    module.train(not module.training).requires_grad_(False)
    assert structure(module) == before
    module.requires_grad_()(IMAGES).sum().backward()
    module.double()
    assert structure(module) == before


def test_a_comment_or_a_line_more_changes_nothing():
    assert structure(net(NET.replace("        return x * 0.5", "        # half of it\n\n        return x * 0.5"))) == (
        structure(net())
    )


def test_what_is_one_and_what_is_two_counts():
    act, other = nn.ReLU(), nn.ReLU()
    assert structure(nn.Sequential(act, act)) != structure(nn.Sequential(act, other))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = structure(tied)
    tied[1].weight = tied[0].weight
    assert structure(tied) != before


def half(module, given, found):
    return found / 2


def double(module, given, found):
    return found * 2


def test_hooks_count_by_name_and_code():
    module = net()
    found = [structure(module)]
    for hook in (half, double, functools.partial(half), lambda m, g, f: f / 2, lambda m, g, f: f / 3):
        handle = module.conv.register_forward_hook(hook)
        found.append(structure(module))
        handle.remove()
    handle = module.conv.register_full_backward_hook(half)
    found.append(structure(module))
    assert len(set(found)) == len(found)
    handle.remove()
    assert structure(module) == found[0]


def test_a_forward_of_one_object_counts():
    module = net()
    before = structure(module)
    module.conv.forward = lambda x: x
    assert structure(module) != before


def test_parametrised_and_decorated_modules_have_one():
    module = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    assert structure(module) != structure(nn.Conv2d(3, 4, 3))
    wrapped = NET.replace("    def half", "    @torch.no_grad()\n    def half")
    assert structure(net(wrapped)) != structure(net())
    assert structure(net(wrapped)) != structure(net(wrapped.replace("0.5\n", "0.25\n")))  # seen through the decorator


def test_a_traced_module_counts_by_its_code():
    one, other = (torch.fx.symbolic_trace(net(code)) for code in (NET, NET.replace("x * 0.5", "x * 0.25")))
    assert structure(one) == structure(torch.fx.symbolic_trace(net())) != structure(other)


STRANGE = (
    NET.replace("self.scale = 3", "self.scale = object(); self.made = {'b', 'a', 'c'}")
    + '''
    def extra_repr(self):
        return f"at {self.scale!r}"

    def chosen(self, name):
        """Constants that are sets."""
        return name in {"one", "two", "three"} or (lambda x: x[..., None])(name)
'''
)  # fmt: skip

PRINTS = f"""
import torch
from torch import nn
from pytest_cnnaudit.model.digest import digest
from pytest_cnnaudit.model.structure import structure
space = {{"nn": nn, "torch": torch, "__name__": "suite"}}
exec({STRANGE!r}, space)
torch.manual_seed(0)
net = space["Net"]()
print(structure(net), digest(net))
"""


def test_it_is_the_same_in_every_process():
    """With memory laid out otherwise, and names in another order in sets."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    run = subprocess.run(
        [sys.executable, "-c", PRINTS],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    module = net(STRANGE)
    assert run.stdout.split() == [structure(module), digest(module)]


def test_code_that_changed_gives_other_outputs():
    """Here of a function that the module finds in a list, which its structure knows nothing of."""
    code = NET.replace("self.half(", "worked[0](self.half(").replace(".mean((2, 3)))", ").mean((2, 3)))")
    torch.manual_seed(0)
    module = made(code, worked=[lambda x: x])()
    torch.manual_seed(0)
    changed = made(code, worked=[lambda x: 2 * x])()
    assert structure(module) == structure(changed)
    before, now = (outputs(AuditModel(each), IMAGES, torch.device("cpu")) for each in (module, changed))
    assert before.shape == (4, 3)
    assert before.dtype == np.float32
    assert not alike(before, now)
    assert alike(before, outputs(AuditModel(copy.deepcopy(module)), IMAGES, torch.device("cpu")))


def test_outputs_leave_the_model_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3))
    module.train()
    state, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    found = outputs(AuditModel(module, mean=(0.5,) * 3, std=(0.25,) * 3), IMAGES, torch.device("cpu"))
    assert np.array_equal(
        found, outputs(AuditModel(module, mean=(0.5,) * 3, std=(0.25,) * 3), IMAGES, torch.device("cpu"))
    )
    assert all(part.training for part in module.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in module.parameters())
    assert all(torch.equal(module.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6).map(
    lambda values: np.array(values, np.float32).reshape(2, 3)
)


@given(logits=LOGITS, place=st.integers(0, 5), share=st.floats(0, 2))
def test_alike_is_up_to_rounding(logits, place, share):
    """1e-4 of the largest logit, whichever logit it is that differs."""
    largest = max(float(np.abs(logits).max()), 1.0)
    logits = np.append(logits, [[largest] * 3], axis=0).astype(np.float32)
    now = logits.copy().astype(np.float64)
    now.reshape(-1)[place] += share * 1e-4 * largest
    if abs(share - 1) > 0.05:  # float32 rounds, and the change may make a larger logit
        assert alike(logits, now.astype(np.float32)) == (share < 1)
        assert alike(now.astype(np.float32), logits) == (share < 1)


def test_nothing_is_alike_but_the_same():
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    nan, inf = ones.copy(), ones.copy()
    nan[0, 0], inf[0, 0] = np.nan, np.inf
    kinds = [zeros, ones, nan, inf, -inf, ones[:1], ones.T, np.zeros((0, 3), np.float32)]
    for number, one in enumerate(kinds):
        assert [alike(one, other) for other in kinds] == [number == each for each in range(len(kinds))]
