import pytest
import torch

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.engine import resolve_device


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that the machine has so many GPUs, and that this is the xdist worker of that name."""

    def pretend(count, worker=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        if worker:
            monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)

    return pretend


@pytest.mark.parametrize(
    ("wanted", "count", "worker", "device"),
    [
        ("cpu", 2, None, "cpu"),
        ("auto", 0, None, "cpu"),
        ("auto", 0, "gw3", "cpu"),
        ("auto", 2, None, "cuda:0"),
        ("cuda", 1, None, "cuda:0"),
        ("cuda:1", 2, None, "cuda:1"),
        ("auto", 2, "gw0", "cuda:0"),
        ("auto", 2, "gw1", "cuda:1"),
        ("cuda", 2, "gw3", "cuda:1"),
        ("cuda", 8, "gw11", "cuda:3"),
        ("cuda:0", 2, "gw1", "cuda:0"),
    ],
)
def test_a_device_is_found_and_workers_are_spread(gpus, wanted, count, worker, device):
    gpus(count, worker)
    assert resolve_device(wanted) == torch.device(device)


@pytest.mark.parametrize(
    ("wanted", "count", "message"),
    [
        ("cuda", 0, "'cuda' is not there: torch sees 0 CUDA devices. Use 'auto' or 'cpu'"),
        ("cuda:2", 2, "'cuda:2' is not there: torch sees 2"),
        ("mps", 0, "'mps' is not there"),
        ("cuda:x", 2, "'cuda:x'"),
        ("cuda:-1", 2, "'cuda:-1'"),
        ("gpu", 1, "'gpu'"),
    ],
)
def test_a_device_that_is_not_there_is_named(gpus, wanted, count, message):
    gpus(count)
    with pytest.raises(AuditError, match=message):
        resolve_device(wanted)
