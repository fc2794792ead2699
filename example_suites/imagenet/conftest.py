"""ImageNet: the networks of the lecture, and a SqueezeNet with boxed images.

The lecture's networks come with torchvision's pretrained weights, from its cache or, where CNNAUDIT_DOWNLOAD is set, by
download. The SqueezeNet, the boxes and the photographs are looked for in the folder named by CNNAUDIT_DATA, else in
`shared/data` beside the repository. What cannot be had is skipped, with the reason.
"""

import contextlib
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from pytest_cnnaudit import AuditModel, Samples

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FOLDER = Path(os.environ.get("CNNAUDIT_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(scope="session")
def audit_model(request):
    """The SqueezeNet, or the torchvision model that a test asks for by name."""
    return _model(getattr(request, "param", "squeezenet1_1"))


def _model(name):
    from torchvision.models import SqueezeNet1_1_Weights

    network = _squeezenet() if name == "squeezenet1_1" else _pretrained(name)
    names = SqueezeNet1_1_Weights.DEFAULT.meta["categories"]
    return AuditModel(network, mean=MEAN, std=STD, class_names=names, name=name)


@pytest.fixture(scope="session")
def other_models(audit_model):
    """The lecture's networks, as many as can be had, but for the one under audit."""
    others = []
    for name in ("alexnet", "resnet18", "resnet101", "densenet121"):
        if name != audit_model.name:
            with contextlib.suppress(pytest.skip.Exception):
                others.append(_model(name))
    return others or pytest.skip("there is no other network to compare with: no weights of the lecture's networks")


def _squeezenet():
    if not (FOLDER / "imagenet_squeezenet1_1.safetensors").is_file():
        pytest.skip(f"no weights: there is no imagenet_squeezenet1_1.safetensors in {FOLDER} (set CNNAUDIT_DATA)")
    spec = importlib.util.spec_from_file_location("cnnaudit_data_models", FOLDER / "models.py")
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    return models.load("imagenet_squeezenet1_1")


def _pretrained(name):
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file() and not os.environ.get("CNNAUDIT_DOWNLOAD"):
        pytest.skip(f"no weights of {name}: {cached} is not there, and CNNAUDIT_DOWNLOAD is not set")
    try:
        return get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        pytest.skip(f"no weights of {name}: they could not be downloaded ({error})")


@pytest.fixture(scope="session")
def audit_samples(request):
    """The boxed images; where a test asks for them, the ``photos``, or the ``elephant`` alone."""
    wanted = getattr(request, "param", "boxes")
    if wanted != "boxes":
        photographs = _photographs()
        return photographs if wanted == "photos" else photographs[[photographs.ids.index("African elephant")]]
    folder = FOLDER / "imagenet_boxes"
    if not (folder / "boxes.json").is_file():
        pytest.skip(f"no images: there is no boxes.json in {folder} (set CNNAUDIT_DATA)")
    content = json.loads((folder / "boxes.json").read_text())
    classes = {category["supercategory"]: category["id"] for category in content["categories"]}
    return Samples.from_folder(folder / "images", classes=classes, boxes=folder / "boxes.json")


def _photographs():
    """Photographs named ``wnid_class.JPEG``, resized to 256 and cut to 224 as in evaluation; the class by its name."""
    from torchvision.models import SqueezeNet1_1_Weights
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    files = sorted((FOLDER / "imagenet_photos").glob("*.JPEG"))
    if not files:
        pytest.skip(f"no photographs: there is nothing in {FOLDER / 'imagenet_photos'} (set CNNAUDIT_DATA)")
    names = [name.lower() for name in SqueezeNet1_1_Weights.DEFAULT.meta["categories"]]
    wanted = [file.stem.split("_", 1)[1].replace("_", " ") for file in files]
    images = [center_crop(resize(pil_to_tensor(Image.open(file).convert("RGB")), 256), 224) for file in files]
    labels = [names.index(name.lower()) for name in wanted]
    return Samples.from_tensors(torch.stack(images), labels, ids=wanted)
