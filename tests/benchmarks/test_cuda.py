"""On a GPU: attacks and lenses beside the libraries, in seconds, on the same images, in turns in one run.

    pytest -m benchmark -s tests/benchmarks/test_cuda.py

Four thousand images of CIFAR-10's size (the 500, mirrored and shifted by a pixel or two), 500 at a time: a GPU takes
hardly less time for a small batch than for a large one, so passes that are saved save time only while others wait.
Each figure is the median of the rounds; convolutions compute in TF32, as torch has it.
"""

import statistics
import time

import pytest
import torch

from pytest_cnnaudit import Audit, Samples
from pytest_cnnaudit.attacks import pgd
from pytest_cnnaudit.lenses.cams import grad_cam
from pytest_cnnaudit.lenses.guided_backprop import guided_backprop
from pytest_cnnaudit.lenses.integrated_gradients import integrated_gradients

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch reaches with CUDA"),
]
BATCH, ROUNDS = 500, 3


@pytest.fixture
def many(cifar_samples):
    """4,000 images and labels."""
    batch = next(cifar_samples.batches(BATCH))
    copies = [batch.images.roll(shift, 3) for shift in (-2, -1, 0, 1)]
    return torch.cat([*copies, *(images.flip(3) for images in copies)]), batch.labels.repeat(8)


@pytest.fixture
def in_turns(capsys):
    """Seconds of each of several works, and what they return."""

    def measure(title, works, rounds=ROUNDS):
        results = {name: work() for name, work in works.items()}  # the first run is slower
        took = {name: [] for name in works}
        for _ in range(rounds):
            for name, work in works.items():
                torch.cuda.synchronize()
                began = time.perf_counter()
                work()
                torch.cuda.synchronize()
                took[name].append(time.perf_counter() - began)
        seconds = {name: statistics.median(each) for name, each in took.items()}
        with capsys.disabled():
            print(f"\n  {title:32}" + "  ".join(f"{name} {each:.3f} s" for name, each in seconds.items()), end="")
        return seconds, results

    return measure


def robust(model, images, labels):
    with torch.no_grad():
        return float(
            torch.cat([model(x).argmax(1) == y for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True)])
            .float()
            .mean()
        )


@pytest.mark.parametrize("eps", [8 / 255, 2 / 255])
def test_pgd(resnet20_model, many, in_turns, counted, eps):
    foolbox, torchattacks = pytest.importorskip("foolbox"), pytest.importorskip("torchattacks")
    images, labels = (each.cuda() for each in many)
    with resnet20_model.borrow(torch.device("cuda")) as model:
        plain = counted(model)

        def by_foolbox():
            attack, wrapped = (
                foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=20),
                foolbox.PyTorchModel(plain, (0, 1)),
            )
            pairs = zip(images.split(BATCH), labels.split(BATCH), strict=True)
            return torch.cat([attack(wrapped, x, y, epsilons=eps)[1] for x, y in pairs])

        def by_torchattacks():
            attack = torchattacks.PGD(plain, eps=eps, alpha=eps / 4, steps=20)
            pairs = zip(images.split(BATCH), labels.split(BATCH), strict=True)
            return torch.cat([attack(x, y) for x, y in pairs])

        def by_us():
            fast = model.fast(images[:BATCH])
            return pgd(fast, images, labels, eps=eps, steps=20, step_size=eps / 4, at_once=BATCH)

        works = {"ours": by_us, "torchattacks": by_torchattacks, "foolbox": by_foolbox}
        seconds, results = in_turns(f"PGD-20 {eps * 255:g}/255, 4,000 images", works)
        shares = {name: robust(model, found, labels) for name, found in results.items()}
    assert shares["ours"] <= min(shares.values()) + 0.003
    assert seconds["ours"] <= 0.5 * min(seconds["torchattacks"], seconds["foolbox"])


def test_autoattack(resnet20_model, cifar_samples, in_turns, counted):
    torchattacks = pytest.importorskip("torchattacks")
    audit = Audit(resnet20_model, cifar_samples, device="cuda")
    batch = next(cifar_samples.batches(BATCH))
    images, labels = batch.images.cuda(), batch.labels.cuda()
    with resnet20_model.borrow(torch.device("cuda")) as model:
        theirs = torchattacks.AutoAttack(counted(model), norm="Linf", eps=1 / 255, n_classes=10)
        works = {
            "fast": lambda: audit.attack("linf", 1 / 255),
            "standard": lambda: audit.attack("linf", 1 / 255, auto="standard"),
            "torchattacks": lambda: theirs(images, labels),
        }
        seconds, results = in_turns("AutoAttack 1/255, 500 images", works, rounds=1)
        found = robust(model, results["torchattacks"], labels)
    print(
        f"; robust {float(results['fast'].robust_accuracy)}, {float(results['standard'].robust_accuracy)}, {found:.3f}"
    )
    assert float(results["standard"].robust_accuracy) <= found + 0.002
    assert seconds["standard"] <= 0.5 * seconds["torchattacks"]
    assert seconds["fast"] <= 0.15 * seconds["torchattacks"]


def test_attributions(resnet20_model, many, in_turns):
    captum = pytest.importorskip("captum.attr")
    images, labels = many[0][:BATCH].cuda(), many[1][:BATCH].cuda()
    with resnet20_model.borrow(torch.device("cuda")) as model:
        layer = model.module.layer3
        ours = {
            "guided backprop": lambda: guided_backprop(model, images, labels),
            "Grad-CAM": lambda: grad_cam(model, images, labels, layer=layer),
            "integrated gradients": lambda: integrated_gradients(model, images, labels, steps=10),
        }
        guided, cam = captum.GuidedBackprop(model), captum.LayerGradCam(model, layer)
        path = captum.IntegratedGradients(model)
        theirs = {
            "guided backprop": lambda: guided.attribute(images.clone().requires_grad_(), labels),
            "Grad-CAM": lambda: cam.attribute(images, labels, relu_attributions=True),
            "integrated gradients": lambda: path.attribute(images, target=labels, n_steps=10),
        }
        for name, lens in ours.items():
            seconds, _ = in_turns(f"{name}, {BATCH} images", {"ours": lens, "captum": theirs[name]}, rounds=15)
            assert seconds["ours"] <= 1.25 * seconds["captum"], name


def test_top_patches(resnet20_model, many, in_turns):
    images, labels = many
    audit = Audit(resnet20_model, Samples.from_tensors(images, labels), device="cuda", batch_size=BATCH)

    def plain():
        with resnet20_model.borrow(torch.device("cuda")) as model, torch.no_grad():
            for batch in images.split(BATCH):
                model(batch.cuda())

    in_turns("top patches, 4,000 images", {"plain passes": plain, "ours": audit.top_patches})


def test_larger_batches_are_faster(resnet20_model, many, in_turns):
    """What the default batch size on a GPU rests on."""
    samples = Samples.from_tensors(*many)
    works = {
        f"batches of {size}": lambda size=size: Audit(resnet20_model, samples, device="cuda", batch_size=size).attack(
            "linf", 2 / 255, attack="pgd", steps=20
        )
        for size in (64, 256, 1024)
    }
    seconds, _ = in_turns("PGD-20 2/255 audit, 4,000 images", works, rounds=1)
    assert seconds["batches of 1024"] <= 0.7 * seconds["batches of 64"]
