"""A ResNet-20 on CIFAR-10 and an adversarially trained ResNet-4B: published models, real weights, 500 test images.

They are looked for in the folder named by CNNAUDIT_DATA, else in `shared/data` beside the repository; the images also
by torchvision's own download, where CNNAUDIT_DOWNLOAD is set. Elsewhere the suite skips, and says why.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_cnnaudit import AuditModel, Samples

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = Path(os.environ.get("CNNAUDIT_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(scope="session")
def audit_model(request):
    """The undefended ResNet-20, or the network that a test asks for by name."""
    return _model(getattr(request, "param", "resnet20"))


@pytest.fixture(scope="session")
def defended_model():
    """The adversarially trained ResNet-4B, beside the model under audit."""
    return _model("resnet4b")


def _model(name):
    if not (FOLDER / f"cifar10_{name}.safetensors").is_file():
        pytest.skip(f"no weights: there is no cifar10_{name}.safetensors in {FOLDER} (set CNNAUDIT_DATA)")
    spec = importlib.util.spec_from_file_location("cnnaudit_data_models", FOLDER / "models.py")
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    mean, std = models.NORMALISATION[f"cifar10_{name}"]
    return AuditModel(models.load(f"cifar10_{name}"), mean=mean, std=std, class_names=CLASSES, name=name)


@pytest.fixture(scope="session")
def audit_samples(tmp_path_factory):
    if (FOLDER / "cifar10_test_500.npz").is_file():
        data = np.load(FOLDER / "cifar10_test_500.npz")
        images = torch.from_numpy(data["x"]).permute(0, 3, 1, 2)
        return Samples.from_tensors(images, data["y"], limit=200, seed=0, class_names=CLASSES)
    if not os.environ.get("CNNAUDIT_DOWNLOAD"):
        pytest.skip(f"no images: there is no cifar10_test_500.npz in {FOLDER}, and CNNAUDIT_DOWNLOAD is not set")
    from torchvision.datasets import CIFAR10

    try:
        return Samples.from_dataset(CIFAR10(tmp_path_factory.mktemp("cifar10"), train=False, download=True), limit=200)
    except (OSError, RuntimeError) as error:
        pytest.skip(f"no images: CIFAR-10 could not be downloaded ({error})")
