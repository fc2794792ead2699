"""Turning images into a class: it is reached, as surely as was asked for, by a change that is as large as is said."""

import math

import numpy as np
import pytest
import torch

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.attacks.norms import length
from pytest_cnnaudit.audits.smallest import Smallest


@pytest.fixture
def changed(monkeypatch):
    """The changed images of what is measured, by sample id."""
    kept, rows = {}, Smallest._rows

    def remember(self, batch, part, adversarial):
        kept.update({sample.id: image for sample, image in zip(batch.samples, adversarial, strict=True)})
        return rows(self, batch, part, adversarial)

    monkeypatch.setattr(Smallest, "_rows", remember)
    return kept


def images_of(samples):
    return torch.stack([sample.image for sample in samples])


# The target ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("confidence", [None, 0.5, 0.9])
def test_the_target_is_reached_as_surely_as_was_asked_for(tiny, changed, norm, confidence):
    found = tiny.fool(None, 3, norm, confidence=confidence)
    row = found.per_sample
    assert (row["adversarial_prediction"] == 3).all()
    probability = tiny.model(torch.stack([changed[each] for each in found.ids])).softmax(1)[:, 3].numpy()
    assert (probability >= (confidence or 0)).all()
    np.testing.assert_allclose(row["adversarial_confidence"], probability, rtol=1e-4)
    for name, sample, size in zip(found.ids, tiny.samples, row["perturbation"], strict=True):
        assert 0 <= changed[name].min() <= changed[name].max() <= 1
        assert float(length((changed[name] - sample.image)[None], norm)) == pytest.approx(size, rel=1e-5)
    assert found.fooled == 1
    assert found.title == "Fooled to see bottom right"


def test_it_is_the_known_change_on_a_linear_model(tiny_model, tiny_samples, tiny):
    """Between two classes: the margin over the length of its slope."""
    images = images_of(tiny_samples).requires_grad_()
    logits = tiny_model(images)
    margin = logits.amax(1) - logits[:, 3]
    (slope,) = torch.autograd.grad(margin.sum(), images)
    true = (margin.detach() / slope.flatten(1).norm(dim=1).clamp(min=1e-9)).numpy()
    size = tiny.fool(None, 3).per_sample["perturbation"]
    assert (size >= true * (1 - 1e-5)).all()
    assert (size <= true * 1.03 + 1e-6).all()


def test_the_more_certainty_the_larger_the_change(tiny):
    sizes = [tiny.fool(None, 2, confidence=each).per_sample["perturbation"][0] for each in (None, 0.5, 0.8, 0.95)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


def test_a_class_goes_by_its_number_or_name(tiny):
    by_number, by_name, by_numpy = (tiny.fool(None, target) for target in (2, "bottom left", np.int64(2)))
    for other in (by_name, by_numpy):
        np.testing.assert_array_equal(by_number.per_sample["perturbation"], other.per_sample["perturbation"])
    assert by_name.settings["target"] == by_number.settings["target"] == "bottom left"


def test_a_name_must_stand_for_one_class(tiny_model, tiny_samples, tiny):
    with pytest.raises(AuditError, match="target='koala' should be the name of one class of 'tiny', but none of its 4"):
        tiny.fool(None, "koala")
    cranes = AuditModel(tiny_model.module, class_names=("crane", "crane", "pier", "quay"), name="cranes")
    audit = Audit(cranes, tiny_samples, device="cpu")
    with pytest.raises(AuditError, match=r"of 'cranes', but 2 \(numbers 0, 1\) of its 4 class names match"):
        audit.fool(None, "crane")
    assert audit.fool(None, "quay").fooled == 1
    nameless = AuditModel(tiny_model.module, name="nameless")
    with pytest.raises(AuditError, match="but none of its 0 class names match; give class_names to AuditModel"):
        Audit(nameless, tiny_samples, device="cpu").fool(None, "quay")
    assert Audit(nameless, tiny_samples, device="cpu").fool(None, 1).settings["target"] == "class 1"


@pytest.mark.parametrize("target", [None, 2.5, [3]])
def test_what_is_neither_a_number_nor_a_name_is_no_class(tiny, target):
    with pytest.raises(AuditError, match=r"target=.* is not a class; give its number or its name"):
        tiny.fool(None, target)


@pytest.mark.parametrize("target", [-1, 4, 1000])
def test_a_number_must_be_that_of_a_class(tiny, target):
    with pytest.raises(AuditError, match=f"target={target} is not a class: the model has 4, numbered from 0"):
        tiny.fool(None, target)


# The images ----------------------------------------------------------------------------------------------------------


def test_images_are_samples_or_tensors_or_all_there_are(tiny_model, tiny_samples, tiny):
    everything = tiny.fool(None, 3)
    assert everything.ids == tiny_samples.ids
    part = tiny.fool(tiny_samples[[4, 1]], 3)
    assert part.ids == ("4", "1")
    tensor = tiny.fool(images_of(tiny_samples[[4, 1]]), 3)
    assert tensor.ids == ("0", "1")
    assert tensor.per_sample["correct"].all()  # what the model says of them counts as their label
    for found in (part, tensor):
        np.testing.assert_allclose(
            found.per_sample["perturbation"], everything.per_sample["perturbation"][[4, 1]], rtol=1e-4
        )
    alone = Audit(tiny_model, device="cpu").fool(images_of(tiny_samples[:1]), 3)  # an audit without samples
    assert alone.fooled.count == 1
    assert tiny.measurements == [everything, part, tensor]


@pytest.mark.parametrize("batch_size", [3, 16])
def test_images_without_labels_cost_no_pass_more_and_come_in_batches(tiny_model, tiny_samples, counting, batch_size):
    module = counting(tiny_model.module)
    at_once = []
    module.register_forward_pre_hook(lambda _, given: at_once.append(len(given[0])))
    audit = Audit(AuditModel(module), device="cpu", batch_size=batch_size)
    found = audit.fool(images_of(tiny_samples), 3)
    assert (found.cost.forward, found.cost.backward) == (module.forwards, module.backwards)
    assert max(at_once) <= batch_size
    labelled = audit.fool(tiny_samples, 3)
    assert found.cost == labelled.cost
    for name, values in labelled.per_sample.items():
        np.testing.assert_array_equal(found.per_sample[name], values, err_msg=name)


def test_what_the_model_says_of_an_image_counts_as_its_label(tiny_samples, tiny):
    wrong = Samples.from_tensors(images_of(tiny_samples), (torch.arange(8) + 1) % 4)
    labelled, unlabelled = (tiny.fool(images, 3) for images in (wrong, images_of(wrong)))
    assert labelled.per_sample["correct"].tolist() == [False] * 8
    first = labelled.exhibits[0].rows[0]
    assert first.figures["label"] == tiny.model.class_name(wrong[labelled.ids.index(first.title)].label)
    assert unlabelled.per_sample["correct"].tolist() == [True] * 8
    assert unlabelled.per_sample["label"].tolist() == [0, 1, 2, 3] * 2
    assert set(unlabelled.exhibits[0].rows[0].figures) == {"‖δ‖", "by"}


def test_one_image_is_as_good_as_a_batch_of_one(tiny_samples, tiny):
    one, batch = (tiny.fool(images, 3) for images in (tiny_samples[4].image, images_of(tiny_samples[[4]])))
    assert one.ids == batch.ids == ("0",)
    assert one.smallest == batch.smallest
    assert repr(one.median).endswith("(95% CI 0.00 to inf, n 1)")


def test_bytes_are_divided_before_the_model_sees_them(tiny_samples):
    """Of these images, all are dark; as bytes that are not divided, all would be bright."""

    class IsBright(torch.nn.Module):
        def forward(self, images):
            score = images.mean((1, 2, 3)) - 0.5
            return torch.stack([-score, score], 1)

    audit = Audit(AuditModel(IsBright()), device="cpu")
    pixels = (images_of(tiny_samples) * 255).round().byte()
    found, expected = audit.fool(pixels, 1), audit.fool(pixels.float() / 255, 1)
    assert found.per_sample["label"].tolist() == [0] * 8
    for name, values in expected.per_sample.items():
        np.testing.assert_array_equal(found.per_sample[name], values, err_msg=name)


def test_images_that_need_a_gradient_get_none(tiny_samples, tiny):
    images = images_of(tiny_samples).requires_grad_()
    assert tiny.fool(images, 3).fooled == 1
    assert images.grad is None


@pytest.mark.parametrize(
    ("pick", "given"),
    [
        (lambda samples: [sample.image for sample in samples], "list"),
        (lambda samples: samples[0], "Sample"),
        (lambda samples: samples[0].image.numpy(), "ndarray"),
        (lambda samples: samples[0].image[0], r"a tensor of shape \(16, 16\)"),
        (lambda samples: images_of(samples)[None], r"a tensor of shape \(1, 8, 3, 16, 16\)"),
        (lambda _: "elephant.jpg", "str"),
    ],
)
def test_what_is_no_image_is_named(tiny, pick, given):
    with pytest.raises(
        AuditError, match=rf"Images to fool are Samples .* or a tensor N×C×H×W or C×H×W .*, not {given}\."
    ):
        tiny.fool(pick(tiny.samples), 3)


def test_images_out_of_range_and_none_at_all_are_named(tiny, tiny_samples):
    with pytest.raises(AuditError, match=r"The image of 0 has values from 76.5 to 102; .* Divide by 255"):
        tiny.fool(images_of(tiny_samples) * 255, 3)
    with pytest.raises(AuditError, match=r"There are no samples in tensors \(0 images\)"):
        tiny.fool(images_of(tiny_samples)[:0], 3)


def test_without_images_there_must_be_samples(tiny_model):
    with pytest.raises(AuditError, match="needs samples"):
        Audit(tiny_model, device="cpu").fool(None, 3)


def test_what_is_the_target_already_takes_no_change_and_does_not_count(tiny, changed):
    found = tiny.fool(None, 3)
    size = found.per_sample["perturbation"]
    already = found.per_sample["clean_prediction"] == 3
    assert already.tolist() == [False, False, False, True] * 2
    assert (size[already] == 0).all()
    assert (size[~already] > 0).all()
    assert (found.smallest, found.smallest.n) == (size[~already].min(), 6)
    assert (found.median, found.median.n) == (np.sort(size[~already])[2], 6)
    assert (found.fooled.count, found.fooled.n) == (8, 8)
    assert "2 of 8 images were bottom right from the start." in found.notes
    (exhibit,) = found.exhibits
    assert {row.title for row in exhibit.rows} == {"0", "1", "2", "4", "5", "6"}
    for name in ("3", "7"):
        assert torch.equal(changed[name], tiny.samples[int(name)].image)


def test_what_is_the_target_but_not_surely_enough_is_changed(tiny):
    found = tiny.fool(None, 3, confidence=0.9)
    size = found.per_sample["perturbation"]
    assert size[3] > 0  # bottom right, with a confidence of 0.89
    assert size[7] == 0
    assert found.smallest == size[3]
    assert "1 of 8 images were bottom right with confidence 0.9 from the start." in found.notes
    assert found.settings["confidence"] == "0.9"


def test_where_all_are_the_target_already_there_is_no_smallest_change(tiny, tiny_samples):
    found = tiny.fool(tiny_samples[[3, 7]], 3)
    assert math.isnan(found.smallest)
    assert math.isnan(found.median)
    assert (found.smallest.n, found.fooled) == (0, 1)
    assert found.exhibits == ()
    assert found.cost.backward == 2 * 2  # to compare with the folded model; nothing was searched


@pytest.mark.parametrize("as_tensor", [False, True])
def test_where_nothing_is_left_to_fool_nothing_can_be_asserted(tiny, tiny_samples, as_tensor):
    images = images_of(tiny_samples[[3, 7]]) if as_tensor else tiny_samples[[3, 7]]
    with pytest.raises(
        AuditError, match="Nothing is left to turn into bottom right: all 2 images are that from the start"
    ):
        tiny.assert_fooling_needs(images, 3, at_least=0.1)
    assert tiny.assert_fooling_needs(tiny_samples[[3, 6]], 3, at_least=0.1).smallest.n == 1


def painted(images, quadrant):
    """Images of a class: grey, with that quadrant brighter."""
    found = torch.full_like(images, 0.3)
    found[:, :, quadrant // 2 * 8 :, quadrant % 2 * 8 :][:, :, :8, :8] = 0.6
    return found


def stubborn(model, images, labels, targeted):
    """Turns only those over that are bright to begin with."""
    bright = images.amax((1, 2, 3)) > 0.55
    return torch.where(bright[:, None, None, None], painted(images, 3), images)


def test_what_never_becomes_the_target_takes_an_infinite_change(tiny):
    found = tiny.fool(None, 3, attack=stubborn)
    assert found.per_sample["perturbation"][:3].tolist() == [math.inf] * 3
    assert np.isfinite(found.per_sample["perturbation"][3:]).all()
    assert found.median == np.sort(found.per_sample["perturbation"])[4]  # of six, infinite ones included
    assert found.fooled.count == 5
    assert "3 of 8 images were never bottom right." in found.notes
    assert found.per_sample["adversarial_prediction"][:3].tolist() == [0, 1, 2]
    with pytest.raises(AssertionError, match=r"least for [456]: "):
        tiny.assert_fooling_needs(None, 3, at_least=100, attack=stubborn)
    some = tiny.assert_fooling_needs(tiny.samples[:3], 3, at_least=1e6, attack=stubborn)
    assert some.smallest == math.inf
    assert len(some.smallest.story) == 1


def test_another_class_than_the_target_does_not_count(tiny):
    def to_another(model, images, labels, targeted):
        return painted(images, 1)

    found = tiny.fool(None, 3, attack=to_another)
    assert np.isinf(found.per_sample["perturbation"][[0, 1, 2, 4, 5, 6]]).all()
    assert found.fooled.count == 2


# The assertion and the rest ------------------------------------------------------------------------------------------


def test_the_assertion_holds_the_smallest_change_against_its_threshold(tiny):
    smallest = float(tiny.fool(None, 3).smallest)
    assert tiny.assert_fooling_needs(None, 3, at_least=smallest * 0.99).smallest == smallest
    with pytest.raises(AssertionError) as caught:
        tiny.assert_fooling_needs(None, "bottom right", "l2", at_least=1.0)
    text = str(caught.value)
    assert text.startswith("assert smallest fooling change 0.9")
    assert ">= 1.00" in text
    assert "to bottom right: nearest, l2, seed 0" in text
    assert "least for 1: 0.9" in text or "least for 0: 0.9" in text
    assert tiny.measurements[-1].smallest.comparisons


def test_the_change_is_written_in_the_norm_s_own_unit(tiny):
    found = tiny.fool(None, 3, "linf")
    assert found.smallest.story[-1].endswith("/255")
    assert found.settings["norm"] == "linf"
    (exhibit,) = found.exhibits
    assert (exhibit.title, exhibit.columns) == (
        "Into bottom right",
        ("original", "fooled", "difference", "10× difference"),
    )
    assert exhibit.rows[0].pictures[1].caption.startswith("bottom right")
    sizes = [float(row.figures["‖δ‖"].removesuffix("/255")) for row in exhibit.rows]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 90, math.nan])
def test_a_confidence_out_of_range_is_refused(tiny, confidence):
    with pytest.raises(AuditError, match="is not a probability between 0 and 1"):
        tiny.fool(None, 3, confidence=confidence)


def test_an_attack_must_be_able_to_do_what_is_asked_for(tiny):
    with pytest.raises(AuditError, match="has no parameter 'targeted'"):
        tiny.fool(None, 3, attack=lambda model, images, labels: images)
    with pytest.raises(AuditError, match="deepfool has no parameter 'targeted'"):
        tiny.fool(None, 3, attack="deepfool")
    with pytest.raises(AuditError, match="There is no attack 'pgd' that looks for the smallest perturbation"):
        tiny.fool(None, 3, attack="pgd")
    with pytest.raises(AuditError, match="No attack of ddn takes 'confidence'"):
        tiny.fool(None, 3, attack="ddn", confidence=0.9)
    with pytest.raises(AuditError, match="carlini-wagner is a difference of logits, not a probability"):
        tiny.fool(None, 3, attack="carlini_wagner", confidence=0.9)
    with pytest.raises(AuditError, match="There is no norm 'l3'"):
        tiny.fool(None, 3, "l3")


@pytest.mark.parametrize("attack", ["ddn", "fmn", "carlini-wagner", ["ddn", "nearest"]])
def test_other_searches_find_no_less_than_there_is(tiny, attack):
    found = tiny.fool(None, 3, attack=attack)
    best = tiny.fool(None, 3, steps=100)
    assert (found.per_sample["perturbation"] >= best.per_sample["perturbation"] * 0.99).all()
    assert found.fooled == 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_changes_nothing(tiny_model, tiny_samples, tiny, batch_size):
    found = Audit(tiny_model, tiny_samples, device="cpu", batch_size=batch_size).fool(None, 1, "linf", confidence=0.7)
    expected = tiny.fool(None, 1, "linf", confidence=0.7)
    for name, values in expected.per_sample.items():
        np.testing.assert_allclose(found.per_sample[name], values, rtol=1e-3, err_msg=name)


# An elephant ---------------------------------------------------------------------------------------------------------


def test_an_elephant_becomes_a_koala(shared_models, data_folder, changed):
    photograph = data_folder / "imagenet_photos" / "n02504458_African_elephant.JPEG"
    if not photograph.is_file():
        pytest.skip(f"needs the photograph {photograph}")
    from PIL import Image
    from torchvision.models import SqueezeNet1_1_Weights
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    names = SqueezeNet1_1_Weights.DEFAULT.meta["categories"]
    image = center_crop(resize(pil_to_tensor(Image.open(photograph).convert("RGB")), 256), 224)
    samples = Samples.from_tensors(image[None], [names.index("African elephant")], ids=["elephant"])
    mean, std = shared_models.NORMALISATION["imagenet_squeezenet1_1"]
    network = shared_models.load("imagenet_squeezenet1_1")
    audit = Audit(AuditModel(network, mean=mean, std=std, class_names=names), samples, device="cpu")

    found = audit.fool(None, "koala", confidence=0.9)
    with torch.no_grad():
        normalised = (changed["elephant"][None] - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        said = network(normalised).softmax(1)[0]
    assert names[said.argmax()] == "koala"
    assert said.max() >= 0.9
    assert 0 <= changed["elephant"].min() <= changed["elephant"].max() <= 1
    difference = changed["elephant"] - samples[0].image
    assert float(difference.norm()) == pytest.approx(found.smallest, rel=1e-5)
    assert found.smallest < 2  # on average 0.005 in each of 150,528 values
    assert found.smallest.story[-1].startswith("least for elephant: ")
    ((row,),) = (exhibit.rows for exhibit in found.exhibits)
    assert row.title == "elephant"
    assert row.pictures[0].caption.startswith("African elephant")
    assert row.pictures[1].caption == f"koala {float(said.max()):.2f}"
