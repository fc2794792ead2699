"""On a GPU: the same figures as on the CPU, nothing left behind, and memory that runs out and is made do with."""

import contextlib
import math
from pathlib import Path

import pytest
import torch

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.cache import Cache
from pytest_cnnaudit.model.digest import digest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch reaches with CUDA")


@pytest.fixture(scope="module")
def model(tiny_net):
    return AuditModel(tiny_net(), name="tiny")


@pytest.fixture(scope="module")
def samples():
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Samples.from_tensors(images, torch.arange(16) % 4, boxes=[(2, 2, 9, 9)] * 16)


def test_real_weights_in_single_precision_give_the_same_figures_up_to_a_few_samples(resnet20_model, cifar_samples):
    here, there = (Audit(resnet20_model, cifar_samples[:64], device=device) for device in ("cpu", "cuda"))
    for ask in (
        lambda audit: audit.attack("linf", 0.5 / 255, attack="pgd").robust_accuracy,
        lambda audit: audit.attack("l2", 0.1, attack="apgd-ce", steps=10).robust_accuracy,
        lambda audit: audit.saliency("grad_cam", grid=2).grid_pointing_game,
        lambda audit: audit.neighbours().feature_agreement,
    ):
        assert float(ask(there)) == pytest.approx(float(ask(here)), abs=0.04)
    sizes = [float(audit.min_perturbation("l2").median) for audit in (here, there)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


def test_a_gpu_runs_the_folded_copy(resnet20_model, cifar):
    """TF32, with which convolutions run by default, rounds more than the comparison of both may allow."""
    with resnet20_model.borrow(torch.device("cuda")) as borrowed:
        assert borrowed.fast(cifar[0].cuda()) is not borrowed


def test_bfloat16_attacks_find_the_same_up_to_a_few_samples(resnet20_model, cifar_samples):
    plain, half = (
        Audit(resnet20_model, cifar_samples[:96], device="cuda", precision=precision).attack("linf", 1 / 255)
        for precision in ("float32", "bfloat16")
    )
    assert float(half.robust_accuracy) == pytest.approx(float(plain.robust_accuracy), abs=0.03)


@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_a_model_goes_home_and_nothing_of_the_callers_is_changed(home, tiny_net, samples):
    net = tiny_net().train().to(home)
    before, random = digest(net), (torch.get_rng_state(), torch.cuda.get_rng_state())
    Audit(AuditModel(net), samples, device="cuda").attack("linf", 2 / 255)
    Audit(AuditModel(net), samples, device="cuda").saliency("grad_cam")
    assert digest(net) == before
    assert net.training
    assert {weight.device.type for weight in net.parameters()} == {home}
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())
    assert torch.equal(torch.get_rng_state(), random[0])
    assert torch.equal(torch.cuda.get_rng_state(), random[1])


def test_a_model_that_an_attack_moves_comes_back(tiny_net, samples):
    """As foolbox.PyTorchModel does with a model on the CPU, where there is a GPU."""
    net, moved = tiny_net(), []

    def attack(model, images, labels):
        moved.append(net.cuda())
        return images

    with contextlib.suppress(RuntimeError, AuditError):
        Audit(AuditModel(net), samples, device="cpu").attack("linf", 2 / 255, attack=attack)
    assert moved
    assert {weight.device.type for weight in (*net.parameters(), *net.buffers())} == {"cpu"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda audit: audit.attack("linf", 2 / 255),
        lambda audit: audit.min_perturbation("l2"),
        lambda audit: audit.saliency("guided_backprop"),
        lambda audit: audit.saliency("grad_cam"),
        lambda audit: audit.top_patches(k=2),
        lambda audit: audit.visualize([0], size=16, steps=3),
    ],
)
def test_no_memory_stays_taken(ask, model, samples):
    audit, taken = Audit(model, samples, device="cuda"), []
    for _ in range(7):
        ask(audit)
        taken.append(torch.cuda.memory_allocated())
    assert taken[-1] == taken[1], taken  # what the first run keeps is torch's workspace


def test_peak_memory_does_not_grow_with_the_samples(resnet20_model, cifar_samples):
    peaks = []
    for count in (128, 500):  # attacks take four batches at a time
        torch.cuda.reset_peak_memory_stats()
        Audit(resnet20_model, cifar_samples[:count], device="cuda", batch_size=32).attack("linf", 1 / 255)
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.fixture
def little_memory():
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**28 / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_where_memory_runs_out_batches_are_halved(little_memory, resnet20_model, cifar_samples):
    tight = Audit(resnet20_model, cifar_samples, device="cuda", batch_size=500).attack("linf", 1 / 255, attack="pgd")
    small = Audit(resnet20_model, cifar_samples, device="cuda", batch_size=16).attack("linf", 1 / 255, attack="pgd")
    assert len(tight.ids) == 500
    assert float(tight.robust_accuracy) == pytest.approx(float(small.robust_accuracy), abs=0.01)


def test_what_was_measured_on_a_gpu_is_known_again_there_and_not_on_the_cpu(tmp_path, model, samples):
    first, second, other = (
        Audit(model, samples, device=device, cache=Cache(tmp_path)).attack("linf", 2 / 255)
        for device in ("cuda", "cuda", "cpu")
    )
    assert first.cached is None
    assert second.cached is not None
    assert float(second.robust_accuracy) == float(first.robust_accuracy)
    assert other.cached is None


def test_twice_the_same_seed_is_twice_the_same_figure(resnet20_model, cifar_samples):
    one, two = (Audit(resnet20_model, cifar_samples[:64], device="cuda").attack("linf", 1 / 255) for _ in range(2))
    assert math.isclose(one.robust_accuracy, two.robust_accuracy, abs_tol=1 / 64)


def test_a_suite_on_two_workers_runs_on_the_gpu(pytester):
    pytester.makeconftest((Path(__file__).parent / "audits" / "tiny_suite.py").read_text())
    pytester.makepyfile(
        """
        def test_attack(audit):
            assert audit.attack("linf", 30 / 255).robust_accuracy > 0

        def test_saliency(audit):
            audit.saliency("gradient")

        def test_filters(audit):
            audit.filters()
        """
    )
    result = pytester.runpytest_subprocess("--cnnaudit", "-n2")
    result.assert_outcomes(passed=3)
    assert '"device":"cuda:0"' in (pytester.path / "cnnaudit-report" / "report.json").read_text()


def test_attacks_and_attributions_of_other_libraries_run_there(resnet20_model, cifar_samples):
    foolbox, torchattacks = pytest.importorskip("foolbox"), pytest.importorskip("torchattacks")
    captum = pytest.importorskip("captum.attr")
    audit = Audit(resnet20_model, cifar_samples[:64], device="cuda")
    ours = float(audit.attack("linf", 1 / 255, attack="pgd").robust_accuracy)
    theirs = (
        foolbox.attacks.LinfPGD(steps=20, abs_stepsize=0.25 / 255),
        lambda model, images, labels: torchattacks.PGD(model, eps=1 / 255, alpha=0.25 / 255, steps=20)(images, labels),
    )
    for attack in theirs:
        assert float(audit.attack("linf", 1 / 255, attack=attack).robust_accuracy) == pytest.approx(ours, abs=0.1)
    attribution = captum.LayerGradCam(resnet20_model.module, resnet20_model.module.layer3)
    found = audit.saliency(attribution, grid=2).grid_pointing_game
    assert float(found) == pytest.approx(float(audit.saliency("grad_cam", grid=2).grid_pointing_game), abs=0.05)
