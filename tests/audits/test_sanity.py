"""Maps of methods that use what was learnt change as it is forgotten; those of an edge detector do not."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.questions.explanations import ExplanationQuestions

IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
SAMPLES = Samples.from_tensors(IMAGES, [0, 1, 2] * 2)


def edges(model, images, targets):
    """Sobel's: it has never heard of the model."""
    grey = nn.functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    return sum(nn.functional.conv2d(grey, each) ** 2 for each in (kernel, kernel.mT)).sqrt()


class Net(nn.Module):
    """Registered in another order than it runs in; `unused` never runs."""

    def __init__(self):
        super().__init__()
        self.head, self.unused, self.norm = nn.Linear(6, 3), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(6)
        self.second, self.relu, self.first = nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(3, 6, 3)

    def forward(self, images):
        return self.head(self.relu(self.second(self.relu(self.norm(self.first(images))))).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net.train()(IMAGES)
    return net.eval()


def asks(module, samples=SAMPLES, **options):
    return ExplanationQuestions(AuditModel(module), samples, device="cpu", **options)


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "guided_backprop", "layer_cam", "eigen_cam"])
def test_methods_that_use_the_weights_of_a_real_network_pass(resnet20_model, cifar_samples, method):
    audit = ExplanationQuestions(resnet20_model, cifar_samples[:32], device="cpu")
    found = audit.assert_saliency_sane(method, stages=2)
    assert found.similarity <= 0.7
    assert found.compared >= 0.6
    assert found.settings["layers"] == "39"


def test_an_edge_detector_fails(resnet20_model, cifar_samples):
    audit = ExplanationQuestions(resnet20_model, cifar_samples[:32], device="cpu")
    with pytest.raises(AssertionError, match=r"assert similarity 1\.00 .*<= 0\.75\n  method edges; target label"):
        audit.assert_saliency_sane(edges)
    found = audit.measurements[-1]
    assert (found.similarity, found.similarity_of_head, found.ssim) == (1, 1, pytest.approx(1))


def test_a_method_that_ignores_the_last_layer_is_found_out_at_the_first_stage(resnet20_model, cifar_samples):
    audit = ExplanationQuestions(resnet20_model, cifar_samples[:32], device="cpu")
    assert audit.saliency_sanity("eigen_cam", stages=2).similarity_of_head == 1
    assert audit.saliency_sanity("grad_cam", stages=2).similarity_of_head <= 0.6


def test_stages_follow_the_order_of_the_computation_and_the_rest_is_named(net):
    found = asks(net).saliency_sanity("gradient")
    assert [stage.layer for stage in found.stages] == ["head", "second", "norm", "first"]
    assert [stage.layers for stage in found.stages] == [1, 2, 3, 4]
    assert "Never ran, and were left as they are: unused." in found.notes
    assert [stage.layer for stage in asks(net).saliency_sanity("gradient", stages=2).stages] == ["head", "first"]
    assert found.per_sample["rank_correlation"].shape == (6, 4)
    assert found.similarity == pytest.approx(found.per_sample["rank_correlation"][:, -1].mean())
    assert found.similarity_of_head == pytest.approx(found.per_sample["rank_correlation"][:, 0].mean())


def test_each_stage_explains_the_copy_in_which_just_its_layers_are_other_ones(net):
    """Seen from inside a method: which weights differ from the user's?"""
    seen = []

    def looks(model, images, targets):
        pairs = zip(model.module.named_parameters(), net.parameters(), strict=True)
        seen.append({name.split(".")[0] for (name, one), other in pairs if not torch.equal(one, other)})
        return images

    asks(net).saliency_sanity(looks)
    norm = set()  # its weights were never trained: 1 and 0 before and after
    assert seen == [set(), {"head"}, {"head", "second"}, {"head", "second"} | norm, {"head", "second", "first"}]


def test_the_class_stays_the_same_through_all_stages(net):
    asked = []

    def remembers(model, images, targets):
        asked.append(targets.tolist())
        return images

    audit = asks(net)
    audit.saliency_sanity(remembers)
    assert asked == [[0, 1, 2] * 2] * 5
    asked.clear()
    audit.saliency_sanity(remembers, target="predicted")
    with torch.no_grad():
        assert asked == [net(IMAGES).argmax(1).tolist()] * 5
    asked.clear()
    audit.saliency_sanity(remembers, target=2)
    assert asked == [[2] * 6] * 5


def test_a_layer_is_the_copys_of_the_same_name(net):
    found = asks(net).saliency_sanity("grad_cam", layer="norm")
    assert found.settings["layer"] == "norm"
    assert found.similarity < 0.99


def test_constant_maps_are_never_sane_by_accident(net):
    def dies(model, images, targets):
        return images if model.module.head is net.head else torch.zeros_like(images)

    audit = asks(net)
    with pytest.raises(AssertionError, match=r"assert compared maps 0\.00 .*>= 0\.50") as failed:
        audit.assert_saliency_sane(dies)
    assert "6 maps of the wholly re-initialised network are constant" in str(failed.value)
    found = audit.measurements[-1]
    assert np.isnan(found.similarity)
    assert np.isnan(found.per_sample["rank_correlation"]).all()
    with pytest.raises(AssertionError, match="compared maps"):
        audit.assert_saliency_sane(lambda model, images, targets: torch.ones_like(images))
    assert "6 maps of the trained network are constant, and are not compared." in audit.measurements[-1].notes


def test_batches_change_nothing_and_the_seed_changes_the_draw(net):
    whole, single = (asks(net, batch_size=size).saliency_sanity("gradient") for size in (None, 1))
    for name in ("rank_correlation", "ssim"):
        np.testing.assert_allclose(single.per_sample[name], whole.per_sample[name], atol=1e-5)
    assert [row.title for row in single.exhibits[2].rows] == [row.title for row in whole.exhibits[2].rows]
    assert asks(net, seed=1).saliency_sanity("gradient").similarity != whole.similarity


def test_it_costs_an_explanation_for_each_stage_and_little_more(net):
    found = asks(net, batch_size=4).saliency_sanity("gradient")
    # What the model says of the samples, five maps of each, and in which order the layers run.
    assert (found.cost.forward, found.cost.backward) == (6 + 5 * 6 + 1, 5 * 6)


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
def test_the_model_is_left_as_it_was(resnet20, resnet20_model, cifar_samples, untouched, method):
    check = untouched(resnet20.train())
    model = AuditModel(resnet20, mean=resnet20_model.mean, std=resnet20_model.std)
    ExplanationQuestions(model, cifar_samples[:4], device="cpu").saliency_sanity(method, stages=2)
    check()


def test_normalisation_and_output_are_those_of_the_model(net):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return {"scores": self.net(images)}

    model = AuditModel(
        Wrapped(), mean=(0.5,) * 3, std=(0.1,) * 3, output=lambda out: out["scores"], input_size=(12, 12)
    )
    found = ExplanationQuestions(model, SAMPLES, device="cpu").saliency_sanity("gradient")
    assert found.stages[0].layer == "net.head"
    assert found.stages[0].rank_correlation > found.similarity


def test_captum_explains_the_copy_and_an_object_for_a_layer_is_refused_with_advice(net):
    captum = pytest.importorskip("captum.attr")
    ours = asks(net).saliency_sanity("gradient").per_sample["rank_correlation"]
    for theirs in (captum.Saliency, captum.Saliency(net)):
        np.testing.assert_allclose(asks(net).saliency_sanity(theirs).per_sample["rank_correlation"], ours, atol=1e-6)
    with pytest.raises(
        AuditError,
        match=r"The copy of 'Net', re-initialised down to 'head', cannot be explained: captum's LayerGradCam was made "
        r"for a layer of another model .*lambda model: LayerGradCam\(model, model\.module",
    ):
        asks(net).saliency_sanity(captum.LayerGradCam(net, net.second))
    found = asks(net).saliency_sanity(lambda model: captum.LayerGradCam(model, model.module.second))
    assert found.similarity < 0.9


def test_exhibits_show_each_stage_with_its_correlation(net):
    found = asks(net).saliency_sanity("gradient")
    chart, table, rows = found.exhibits
    correlation, structure = chart.series
    assert correlation.x == structure.x == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(correlation.y[1:], found.per_sample["rank_correlation"].mean(0))
    np.testing.assert_allclose(structure.y[1:], found.per_sample["ssim"].mean(0))
    assert [row.cells[:2] for row in table.rows] == [("head", "1"), ("second", "2"), ("norm", "3"), ("first", "4")]
    assert rows.columns == ("image", "trained", "head", "second", "norm", "first")
    last = dict(zip(found.ids, found.per_sample["rank_correlation"][:, -1], strict=True))
    assert [row.title for row in rows.rows] == sorted(last, key=last.get, reverse=True)
    assert len(rows.rows[0].pictures) == 6
    assert rows.rows[0].pictures[-1].caption == rows.rows[0].figures["similarity"]
    assert not np.array_equal(rows.rows[0].pictures[1].pixels, rows.rows[0].pictures[5].pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 0}, "stages=0 is no number of stages"),
        ({"max_similarity": 2}, "max_similarity=2 is not a share"),
        ({"target": 3}, r"target=3 is neither a class \(0 to 2\)"),
    ],
)
def test_what_makes_no_sense_is_refused(net, options, message):
    with pytest.raises(AuditError, match=message):
        asks(net).assert_saliency_sane("gradient", **options)


def test_a_model_that_cannot_be_randomised_is_an_error_that_says_why(net):
    class ByHand(nn.Module):
        """Uses its layer's weights without running it."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(432, 3)

        def forward(self, images):
            return nn.functional.linear(images.flatten(1), self.layer.weight)

    with pytest.raises(AuditError, match="No layer of the model 'ByHand' that has parameters runs"):
        asks(ByHand()).saliency_sanity("gradient")
    net.handle = (each for each in ())
    with pytest.raises(AuditError, match=r"Net cannot be copied by copy\.deepcopy"):
        asks(net).saliency_sanity("gradient")
