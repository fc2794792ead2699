"""TF32 is left aside while two ways to compute the same are held together, and the caller's settings come back."""

import warnings

import pytest
import torch

from pytest_cnnaudit.model import rounding
from pytest_cnnaudit.model.rounding import in_single_precision, order_for

GPU, CUDNN, MATMUL = torch.device("cuda:0"), torch.backends.cudnn, torch.backends.cuda.matmul
NEW = hasattr(CUDNN, "conv")


def state():
    def read(holder, name):
        try:
            return getattr(holder, name)
        except RuntimeError:
            return "not to be read"

    names = [(CUDNN, "allow_tf32"), (MATMUL, "allow_tf32")]
    if NEW:
        names += [(CUDNN.conv, "fp32_precision"), (CUDNN.rnn, "fp32_precision"), (MATMUL, "fp32_precision")]
    try:
        matmul = torch.get_float32_matmul_precision()
    except RuntimeError:
        matmul = "not to be read"
    return [*(read(*each) for each in names), matmul]


def older(*, conv, matmul):
    CUDNN.allow_tf32, MATMUL.allow_tf32 = conv, matmul


def newer(*, conv, matmul):
    CUDNN.conv.fp32_precision, MATMUL.fp32_precision = conv, matmul


SETTINGS = {
    "torch's own": lambda: None,
    "all": lambda: older(conv=True, matmul=True),
    "none": lambda: older(conv=False, matmul=False),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    **(
        {
            "newer names, off": lambda: newer(conv="ieee", matmul="ieee"),
            "newer names, on": lambda: newer(conv="tf32", matmul="tf32"),
        }
        if NEW
        else {}
    ),
}


@pytest.fixture
def settings():
    yield
    if NEW:
        CUDNN.conv.fp32_precision = CUDNN.rnn.fp32_precision = "tf32"
        MATMUL.fp32_precision = "none"
    older(conv=True, matmul=False)
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", SETTINGS)
def test_within_it_is_off_and_afterwards_everything_is_as_it_was(settings, name):
    SETTINGS[name]()
    before = state()
    with pytest.raises(ZeroDivisionError), in_single_precision(GPU):
        if NEW:
            assert {CUDNN.conv.fp32_precision, MATMUL.fp32_precision} <= {"ieee", "none"}
        else:
            assert state()[:2] == [False, False]
        raise ZeroDivisionError
    assert state() == before


def test_what_torch_says_of_the_older_names_is_not_the_suites_business(monkeypatch):
    class Warns:
        on = True

        @property
        def allow_tf32(self):
            warnings.warn("Please use the new API settings to control TF32 behavior", UserWarning, stacklevel=1)
            return self.on

        @allow_tf32.setter
        def allow_tf32(self, value):
            warnings.warn("Please use the new API settings to control TF32 behavior", UserWarning, stacklevel=1)
            self.on = value

    switch = Warns()
    monkeypatch.setattr(rounding, "_switches", lambda: ((switch, "allow_tf32", False),))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with in_single_precision(GPU):
            assert not switch.on
        assert order_for(GPU, torch.float32) is torch.channels_last
    assert switch.on


def test_on_a_cpu_nothing_is_touched():
    before = state()
    with in_single_precision(torch.device("cpu")):
        assert state() == before


@pytest.mark.parametrize(
    ("name", "dtype", "capability", "expected"),
    [
        ("torch's own", torch.float32, (9, 0), torch.channels_last),
        ("torch's own", torch.float32, (7, 5), torch.contiguous_format),
        ("none", torch.float32, (9, 0), torch.contiguous_format),
        ("torch's own", torch.float64, (9, 0), torch.contiguous_format),
        ("none", torch.bfloat16, (7, 0), torch.channels_last),
        *([("newer names, off", torch.float32, (9, 0), torch.contiguous_format)] if NEW else []),
        *([("newer names, on", torch.float32, (9, 0), torch.channels_last)] if NEW else []),
    ],
)
def test_the_order_on_a_gpu_is_the_one_its_convolutions_are_fast_in(
    settings, monkeypatch, name, dtype, capability, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    SETTINGS[name]()
    assert order_for(GPU, dtype) is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_a_cpu_the_order_is_channels_last(dtype):
    assert order_for(torch.device("cpu"), dtype) is torch.channels_last
