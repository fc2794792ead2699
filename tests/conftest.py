"""What every test may use: the real models and images of the shared data folder, and a small net."""

import importlib.util
import os
import runpy
import shutil
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and so do the processes that their tests start
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "suite", deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def data_folder():
    """Real weights and images, which are never copied into the repository."""
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CNNAUDIT_DATA", beside))
    if not (folder / "models.py").is_file():
        pytest.skip(f"needs the shared data folder: there is no models.py in {folder} (set CNNAUDIT_DATA)")
    return folder


@pytest.fixture(scope="session")
def shared_models(data_folder):
    """The module models.py of the data folder."""
    pytest.importorskip("safetensors", reason="the shared weights are safetensors")
    spec = importlib.util.spec_from_file_location("cnnaudit_shared_models", data_folder / "models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def resnet20(shared_models):
    """A fresh ResNet-20 with real CIFAR-10 weights, in eval mode."""
    return shared_models.load("cifar10_resnet20")


@pytest.fixture(scope="session")
def resnet20_model(shared_models):
    return _audit_model(shared_models, "cifar10_resnet20")


@pytest.fixture(scope="session")
def resnet4b_model(shared_models):
    """Adversarially trained: some samples stand under small perturbations."""
    return _audit_model(shared_models, "cifar10_resnet4b")


def _audit_model(shared_models, name):
    mean, std = shared_models.NORMALISATION[name]
    return AuditModel(shared_models.load(name), mean=mean, std=std, name=name)


@pytest.fixture(scope="session")
def cifar_samples(data_folder):
    """The first 500 test images of CIFAR-10."""
    with np.load(data_folder / "cifar10_test_500.npz") as file:
        images, labels = file["x"], file["y"]
    return Samples.from_tensors(images.transpose(0, 3, 1, 2), labels)


@pytest.fixture(scope="session")
def cifar(cifar_samples):
    """(images, labels) of the first 64, as tensors."""
    batch = next(cifar_samples.batches(64))
    return batch.images, batch.labels


class TinyNet(nn.Module):
    """A small residual network with batch-norm, a shared in-place ReLU, and settled statistics."""

    def __init__(self, channels=3, classes=4, width=6):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)) + x)
        return self.linear(x.mean((2, 3)))


@pytest.fixture(scope="session")
def tiny_net():
    """Makes a `TinyNet` from a seed, in double precision: rounding then never decides a test."""

    def make(seed=0, **sizes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = TinyNet(**sizes).double()
            net.train()(torch.rand(16, net.conv1.in_channels, 8, 8, dtype=torch.float64))
        return net.eval()

    return make


@pytest.fixture(scope="session")
def adv_lib():
    """The package adv_lib.attacks, a reference. It wants visdom, for plots: an empty module will do."""
    if importlib.util.find_spec("visdom") is None:
        sys.modules["visdom"] = types.ModuleType("visdom")
    return pytest.importorskip(
        "adv_lib.attacks", reason="needs adv-lib: pip install --no-deps adv-lib", exc_type=ImportError
    )


@pytest.fixture
def interruptible():
    """A child process hears SIGINT, also where this one was started with it ignored (in the background of a shell)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"needs Chromium or Chrome: there is no {' or '.join(names)} on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


_TINY = runpy.run_path(str(Path(__file__).parent / "audits" / "tiny_suite.py"))


@pytest.fixture(scope="session")
def tiny_model():
    """Compares the means of four quadrants; see tiny_suite.py."""
    return AuditModel(_TINY["TinyNet"]().eval(), class_names=_TINY["CLASSES"], name="tiny")


@pytest.fixture(scope="session")
def tiny_samples():
    """Eight images with contrasts 0.1, 0.1, 0.2, 0.2, 0.3, …; the model is right about all."""
    images, labels, boxes = _TINY["quadrant_images"]()
    return Samples.from_tensors(images, labels, boxes=boxes)


@pytest.fixture
def tiny(tiny_model, tiny_samples):
    return Audit(tiny_model, tiny_samples, device="cpu")
