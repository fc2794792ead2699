import functools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel
from pytest_cnnaudit.attacks.apgd import _on_the_sphere, apgd
from pytest_cnnaudit.attacks.apgd_t import apgd_t, likeliest
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.results import Cost

NORMS = ["linf", "l2", "l1"]
REFERENCE = {"linf": "Linf", "l2": "L2"}
norms = st.sampled_from(NORMS)
variants = {
    "ce": functools.partial(apgd, loss="ce", hope=None),
    "dlr": functools.partial(apgd, loss="dlr", hope=None),
    "t": lambda *args, steps, **settings: apgd_t(*args, rounds=((3, steps),), **{"hope": None} | settings),
}
each_variant = pytest.mark.parametrize("variant", variants)
ignore_import = pytest.mark.filterwarnings("ignore:Please import .gaussian_filter.:DeprecationWarning")


@each_variant
@settings(max_examples=20)
@given(norm=norms, eps=st.floats(1e-3, 3), steps=st.integers(1, 30), seed=st.integers(0, 99), stretch=st.floats(1, 10))
def test_the_result_stays_in_the_ball_and_in_the_range(tiny_net, drawn, variant, norm, eps, steps, seed, stretch):
    images, labels = drawn(seed, stretch=stretch, dtype=torch.float32)
    with AuditModel(tiny_net(seed).float()).borrow() as model:
        result = variants[variant](model, images, labels, norm=norm, eps=eps, steps=steps)
    assert result.shape == images.shape
    assert (length(result - images, norm) <= eps + 1e-5).all()  # what an audit lets pass for rounding
    assert 0 <= result.min() <= result.max() <= 1


@given(norm=norms, eps=st.floats(1e-3, 3), seeds=st.lists(st.integers(0, 2**48), min_size=1, max_size=4))
def test_it_starts_on_the_sphere(norm, eps, seeds):
    middle = torch.full((len(seeds), 3, 64, 64), 0.5, dtype=torch.float64)
    start = _on_the_sphere(middle, norm, eps, torch.tensor(seeds)) - middle
    expected = torch.full((len(seeds),), eps, dtype=torch.float64)
    if norm != "linf" or eps < 0.5:  # otherwise some of it leaves the range, and is cut
        torch.testing.assert_close(length(start, norm), expected, rtol=1e-6, atol=0)


@each_variant
@settings(max_examples=10)
@given(
    norm=norms, order=st.permutations(range(6)), cut=st.integers(1, 5), at_once=st.none() | st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_neither_batch_nor_order_change_a_samples_result(
    assert_batch_is_no_matter, variant, norm, order, cut, at_once, seed
):
    def attack(model, images, labels, numbers, at_once=None):
        eps = {"linf": 0.02, "l2": 0.1, "l1": 0.5}[norm]
        settings = {"norm": norm, "eps": eps, "steps": 12, "seeds": 1000 * seed + numbers, "at_once": at_once}
        return variants[variant](model, images, labels, **settings)

    assert_batch_is_no_matter(attack, seed, order, cut, at_once)


@settings(max_examples=10)
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("variant", ["ce", "targeted", "t"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_linear_classifier_is_fooled_exactly_beyond_the_distance_to_its_boundary(linear, variant, norm, factor, seed):
    """It has two classes, so that `apgd_t` has to do without the ratio of the DLR loss."""
    if norm == "l1" and factor > 1:
        factor = 2.0  # the published steps move two of these twelve values at least, where one would do best
    model, images, labels, distances = linear(seed, count=1)
    attack = functools.partial(apgd, targeted=True, hope=None) if variant == "targeted" else variants[variant]
    goal = 1 - labels if variant == "targeted" else labels
    result = attack(model, images, goal, norm=norm, eps=factor * float(distances[norm]), steps=50)
    assert (model(result).argmax(1) != labels).item() == (factor > 1)


@pytest.mark.parametrize("variant", ["dlr", "t"])
@settings(max_examples=10)
@given(norm=norms, seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1e3]), shift=st.floats(-10, 10))
def test_the_scale_of_the_logits_is_no_matter_to_the_dlr(tiny_net, drawn, variant, norm, seed, scale, shift):
    images, _ = drawn(seed)
    with AuditModel(tiny_net(seed)).borrow() as model:
        labels = model(images).argmax(1)
        eps = {"linf": 0.01, "l2": 0.1, "l1": 0.5}[norm]
        attack = functools.partial(variants[variant], images=images, labels=labels, norm=norm, eps=eps, steps=12)
        plain, scaled = attack(model), attack(lambda batch: scale * (model(batch) + shift))
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_being_surer_is_no_defence(resnet20_model, cifar, loss):
    """With logits times 100, the gradient of the cross-entropy itself would be zero in floating point."""
    images, labels = (each[:16] for each in cifar)
    with resnet20_model.borrow() as model:
        standing = [
            (model(apgd(attacked, images, labels, eps=0.7 / 255, steps=8, loss=loss)).argmax(1) == labels).sum()
            for attacked in (model, lambda batch: 100 * model(batch))
        ]
    assert 0 < standing[0] < 16
    assert abs(standing[0] - standing[1]) <= 1


class Unfoolable(nn.Module):
    """Says 0 to every image, by a logit that the image moves."""

    def __init__(self, classes=5):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, classes))

    def forward(self, images):
        logits = self.weight * images.flatten(1).square().mean(1, keepdim=True)
        return logits + 100 * torch.eye(len(self.weight), dtype=images.dtype)[0]


@each_variant
@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_that_holds_takes_every_step_and_a_fooled_one_a_forward_pass(variant, norm):
    images = torch.rand(5, 3, 4, 4)
    labels = torch.tensor([0, 0, 0, 1, 2])
    runs, ranking = (3, 1) if variant == "t" else (1, 0)  # targets; a pass that ranks them
    with AuditModel(Unfoolable()).borrow() as model:
        variants[variant](model, images, labels, norm=norm, eps=0.1, steps=7)
        assert model.cost.forward == ranking * 5 + runs * 3 * 7 + 2
        assert model.cost.backward in (runs * 3 * 7, runs * 3 * 7 + 2)  # the first batch goes back whole
        before = model.cost
        variants[variant](model, images[3:], labels[3:], norm=norm, eps=0.1, steps=7)
        assert model.cost - before == Cost(2 * (1 + ranking), 0)


def test_restarts_go_on_with_the_standing_samples_and_fool_no_fewer(resnet4b_model, cifar):
    images, labels = (each[:32] for each in cifar)
    with resnet4b_model.borrow() as model:
        once, thrice = (apgd(model, images, labels, eps=2 / 255, steps=3, restarts=restarts) for restarts in (1, 3))
        fooled, fooled_at_last = (model(each).argmax(1) != labels for each in (once, thrice))
    assert fooled.sum() < len(images)
    assert (fooled_at_last | ~fooled).all()
    assert once[fooled].equal(thrice[fooled])


@each_variant
@pytest.mark.parametrize("norm", NORMS)
def test_giving_up_saves_passes_and_changes_no_answer_that_fools(resnet4b_model, cifar, variant, norm):
    images, labels = (each[:32] for each in cifar)
    eps = {"linf": 4 / 255, "l2": 0.5, "l1": 6}[norm]
    with resnet4b_model.borrow() as model:
        found, costs = [], []
        for hope in (None, 1.0):
            before = model.cost.forward
            found.append(variants[variant](model, images, labels, norm=norm, eps=eps, steps=40, hope=hope))
            costs.append(model.cost.forward - before)
        fooled = [model(each).argmax(1) != labels for each in found]
    if norm == "l1":  # its windows are too short to tell, so it goes on to the end
        assert costs[1] == costs[0]
    else:
        assert costs[1] < 0.9 * costs[0]
    assert (fooled[0] | ~fooled[1]).all()
    if variant != "t":  # with other targets given up, a sample may fall to another one
        assert found[0][fooled[1]].equal(found[1][fooled[1]])


def test_the_likeliest_classes_come_in_order_and_never_the_label():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([1, 0])
    ranked = likeliest(lambda batch: logits[: len(batch)], images, labels, 2)
    assert ranked.tolist() == [[0, 2], [3, 2]]
    assert likeliest(lambda batch: logits[: len(batch)], images, labels, 9).shape == (2, 3)


def test_the_dlr_needs_three_classes_and_says_so(tiny_net, drawn):
    images, labels = drawn(0)
    with pytest.raises(AuditError, match="DLR loss needs 3 classes, but the model has 2"):
        apgd(AuditModel(tiny_net(classes=2)), images, labels % 2, eps=0.1, loss="dlr")


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (apgd, {"loss": "bce"}, "'bce'"),
        (apgd, {"loss": "dlr", "targeted": True}, "targeted"),
        (apgd, {"norm": "l0"}, "'l0'"),
        (apgd_t, {"norm": "l0"}, "'l0'"),
        (apgd_t, {"rounds": ()}, "rounds"),
        (apgd_t, {"rounds": ((3, 0),)}, "rounds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_net, drawn, attack, options, message):
    images, labels = drawn(0)
    with pytest.raises(AuditError, match=message):
        attack(AuditModel(tiny_net()), images, labels, eps=0.1, **options)


class Recorder(nn.Module):
    """Remembers what an attack shows to the model: its iterates."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.model(images)


def first_fooling_or_best(model, labels, iterates):
    """Of a reference's iterates (steps×N×C×H×W) what ours must return, and whether it fools.

    That is the first iterate that fools, or that of the largest cross-entropy. In double precision, so that rounding
    decides nothing.
    """
    with torch.no_grad():
        logits = torch.stack([model(each) for each in iterates])
    steps, count = logits.shape[:2]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(steps), reduction="none").view(steps, count)
    fooled = logits.argmax(2) != labels
    number = torch.where(fooled.any(0), fooled.int().argmax(0), loss.argmax(0))
    return iterates[number, torch.arange(count)], fooled.any(0)


@pytest.fixture
def reference_from(monkeypatch):
    """Makes torchattacks' APGD start where ours does with the seeds 0, 1, 2, …"""

    def make(model, images, norm, eps, **settings):
        import torchattacks

        start = _on_the_sphere(torch.full_like(images, 0.5), norm, eps, torch.arange(len(images))) - 0.5
        if norm == "linf":
            monkeypatch.setattr(torch, "rand", lambda _: (start / eps + 1) / 2)
        else:
            monkeypatch.setattr(torch, "randn", lambda _: start)
        return torchattacks.APGD(model, norm=REFERENCE[norm], eps=eps, **settings)

    return make


@ignore_import
@pytest.mark.parametrize(("norm", "eps"), [("linf", 6 / 255), ("l2", 0.5)])
def test_the_iterates_are_those_of_torchattacks_from_the_same_start(
    shared_models, resnet4b_model, cifar, reference_from, norm, eps
):
    steps = 50
    module = shared_models.load("cifar10_resnet4b").double()
    with AuditModel(module, mean=resnet4b_model.mean, std=resnet4b_model.std).borrow() as model:
        images, labels = cifar[0][:40].double(), cifar[1][:40]
        right = model(images).argmax(1) == labels
        images, labels = images[right], labels[right]
        ours = apgd(model, images, labels, norm=norm, eps=eps, steps=steps, hope=None)
        recorder = Recorder(model).eval()
        reference_from(recorder, images, norm, eps, steps=steps)(images, labels)
        # The first that it shows to the model are the images themselves.
        expected, fooled = first_fooling_or_best(model, labels, torch.stack(recorder.seen[1 : 1 + steps]))
    assert 5 < fooled.sum() < len(labels) - 5
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_the_sparse_iterates_are_those_of_adv_lib_from_the_same_start(
    monkeypatch, doubles, adv_lib, shared_models, resnet4b_model, cifar
):
    eps, steps = 8.0, 60
    module = shared_models.load("cifar10_resnet4b").double()
    with AuditModel(module, mean=resnet4b_model.mean, std=resnet4b_model.std).borrow() as model:
        images, labels = cifar[0][:40].double().clamp(0.1, 0.9), cifar[1][:40]  # the start is in the range
        right = model(images).argmax(1) == labels
        images, labels = images[right], labels[right]
        ours = apgd(model, images, labels, norm="l1", eps=eps, steps=steps, hope=None)
        start = _on_the_sphere(images, "l1", eps, torch.arange(len(images))) - images
        monkeypatch.setattr(torch, "randn_like", lambda _: start)
        recorder = Recorder(model).eval()
        adv_lib.apgd(recorder, images, labels, eps=eps, norm=1, n_iter=steps, loss_function="ce")
        expected, fooled = first_fooling_or_best(model, labels, torch.stack(recorder.seen[:steps]))
    assert 5 < fooled.sum() < len(labels) - 5
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@ignore_import
@pytest.mark.parametrize("variant", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_as_strong_as_in_torchattacks(resnet20_model, cifar, reference_from, variant, norm):
    eps = {"linf": 1 / 255, "l2": 0.12}[norm]
    with resnet20_model.borrow() as model:
        right = (model(cifar[0][:32]).argmax(1) == cifar[1][:32]).nonzero()[:, 0]
        images, labels = (each[right] for each in cifar)
        ours = apgd(model, images, labels, norm=norm, eps=eps, steps=25, loss=variant, hope=None)
        theirs = reference_from(model, images, norm, eps, steps=25, loss=variant)(images, labels)
        standing, expected = (int((model(each).argmax(1) == labels).sum()) for each in (ours, theirs))
    assert 0 < expected < len(images)
    assert abs(standing - expected) <= 1


@ignore_import
@pytest.mark.parametrize(
    ("name", "count", "norm", "eps"), [("resnet20", 16, "linf", 1 / 255), ("resnet4b", 40, "l2", 0.5)]
)
def test_towards_one_class_after_the_other_it_is_as_strong_as_in_torchattacks(request, cifar, name, count, norm, eps):
    import torchattacks

    images, labels = (each[:count] for each in cifar)
    with request.getfixturevalue(f"{name}_model").borrow() as model:
        ours = apgd_t(model, images, labels, norm=norm, eps=eps, rounds=((9, 25),), hope=None)
        theirs = torchattacks.APGDT(model, norm=REFERENCE[norm], eps=eps, steps=25, n_classes=10)(images, labels)
        standing, expected = (int((model(each).argmax(1) == labels).sum()) for each in (ours, theirs))
    assert 0 < expected < len(images)
    assert abs(standing - expected) <= 1
