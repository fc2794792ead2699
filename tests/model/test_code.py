"""What code refers to counts with it, wherever that stands: it is what a cached result depends on."""

import functools
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from pytest_cnnaudit.model.code import behind
from pytest_cnnaudit.model.structure import structure

SUITE = """
import functools, helpers
SCALE, SIZES, FILLED = 2.0, (1, 2), []

def sharpen(x):
    return inner(x) * SCALE

def inner(x):
    return x + 1

def unused(x):
    return x

@functools.cache
def table(n):
    return n * 3

def decorated(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args) + 5
    return call

@decorated
def wrapped(x):
    return x - 6

def around(power):
    def rule(x):
        return x ** power
    return rule

cubed = around(3)
shifted = functools.partial(inner, 7)

def even(x, n=8):
    return odd(x, n - 1) if n else x

def odd(x, n):
    return even(x, n - 1) if n else -x

class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 9

class Paint:
    tone = 10

    def __call__(self, x):
        return x * 11

paint = Paint()

class Net(nn.Module):
    def forward(self, x):
        x = sharpen(x) + table(SIZES[0]) + wrapped(x) + cubed(x) + shifted(x)
        x = even(x) + Straight.apply(x) + paint(x) + helpers.outer(x)
        return x.mean((2, 3)) + len(FILLED)
"""
HELPERS = """
SHIFT = 12

def outer(x):
    return x + SHIFT

def other(x):
    return x + 13
"""


def made(suite=SUITE, helpers=HELPERS):
    """The module `Net` of the suite, with its module `helpers`."""
    beside = types.ModuleType("helpers")
    exec(helpers, beside.__dict__)
    space = {"nn": nn, "torch": torch, "__name__": "suite"}
    sys.modules["helpers"] = beside
    try:
        exec(suite, space)
    finally:
        del sys.modules["helpers"]
    return space["Net"]()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("inner(x) * SCALE", "inner(x) / SCALE"),
        ("return x + 1", "return x - 1"),
        ("SIZES, FILLED = 2.0", "SIZES, FILLED = 2.5"),
        ("(1, 2)", "(1, 3)"),
        ("n * 3", "n * 4"),
        ("+ 5", "+ 6"),
        ("x - 6", "x - 7"),
        ("x ** power", "x * power"),
        ("around(3)", "around(4)"),
        ("partial(inner, 7)", "partial(inner, 8)"),
        ("n=8", "n=9"),
        ("else -x", "else x"),
        ("x.round()", "x.floor()"),
        ("gradient * 9", "gradient * 8"),  # the answers are the same
        ("tone = 10", "tone = 11"),
        ("x * 11", "x * 12"),
    ],
)
def test_a_change_in_what_it_calls_is_seen(before, after):
    assert before in SUITE
    assert structure(made()) != structure(made(SUITE.replace(before, after)))


@pytest.mark.parametrize(("before", "after"), [("x + SHIFT", "x - SHIFT"), ("SHIFT = 12", "SHIFT = 13")])
def test_so_is_one_in_another_module(before, after):
    assert structure(made()) != structure(made(helpers=HELPERS.replace(before, after)))


@pytest.mark.parametrize(
    "change",
    [
        lambda: made(SUITE.replace("    return x\n\n@functools.cache", "    return x * 2\n\n@functools.cache")),
        lambda: made(SUITE.replace("import functools, helpers", "import functools, helpers\nUNUSED = 3")),
        lambda: made(SUITE.replace("FILLED = 2.0, (1, 2), []", "FILLED = 2.0, (1, 2), [1]")),  # filled while it runs
        lambda: made("\n\n" + SUITE.replace("return x + 1", "return x + 1  # one more")),
        lambda: made(helpers=HELPERS.replace("x + 13", "x + 14")),
    ],
)
def test_what_it_does_not_call_and_what_is_not_code_does_not_count(change):
    assert structure(made()) == structure(change())


def test_a_function_that_is_an_attribute_or_a_hook_is_followed():
    def net(shift):
        def inner(x):
            return x + shift

        def outer(x):
            return inner(x)

        module = nn.Identity()
        module.rule = outer
        module.register_forward_hook(lambda _module, _inputs, x: outer(x))
        return module

    assert structure(net(1)) == structure(net(1)) != structure(net(2))


def test_a_library_counts_and_leads_no_further():
    def uses_a_library(x):
        return textwrap.dedent(x)

    import textwrap

    found = behind([uses_a_library])
    assert b"textwrap.dedent" in found
    assert b"re.compile" not in found  # which dedent's module calls
    assert b"numpy" not in behind([lambda x: np.mean(x) + 1])


def test_roots_that_hold_no_functions_are_nothing():
    assert behind([]) == behind([None, 3, "x", nn.ReLU, nn.ReLU(), len, functools.partial(len, ())])


def test_a_name_that_is_not_there_yet_is_left_out():
    def early():
        return late  # noqa: F821

    def around():
        def inside():
            return later

        found = behind([inside])
        later = 1
        return found, later

    assert behind([early]) == behind([])
    assert around()[0] == behind([])


def test_it_is_the_same_in_every_process():
    program = "\n".join(
        [
            "import sys, types, torch; from torch import nn",
            "from pytest_cnnaudit.model.structure import structure",
            f"sys.modules['helpers'] = beside = types.ModuleType('helpers'); exec({HELPERS!r}, beside.__dict__)",
            f"space = dict(nn=nn, torch=torch, __name__='suite'); exec({SUITE!r}, space)",
            "print(structure(space['Net']()))",
        ]
    )
    seeds = ("1", "2")
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        for seed in seeds
    ]
    assert {run.stdout.strip() for run in runs} == {structure(made())}


def test_a_network_of_a_library_takes_no_time():
    net = torchvision.models.resnet18()
    structure(net)
    began = time.perf_counter()
    structure(net)
    assert time.perf_counter() - began < 0.5
