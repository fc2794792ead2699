"""Where ascent starts: the size, the channels, the colour that stands for nothing, the mean of samples."""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.audits.starts import centre_colour, channels_of, image_size, mean_images
from pytest_cnnaudit.engine import Engine

CPU = torch.device("cpu")
IMAGES = torch.rand(10, 3, 6, 8, generator=torch.Generator().manual_seed(0))
LABELS = [0, 1, 1, 0, 3, 1, 0, 3, 3, 3]
SAMPLES = Samples.from_tensors(IMAGES, LABELS)


def model(**options):
    return AuditModel(nn.Sequential(nn.Identity(), nn.Conv2d(2, 4, 1)), **options)


def test_the_size_is_as_given_or_as_the_model_takes_or_as_the_samples_have():
    assert image_size(model(input_size=(5, 7)), SAMPLES, 9) == (9, 9)
    assert image_size(model(input_size=(5, 7)), SAMPLES, (9, 4)) == (9, 4)
    assert image_size(model(input_size=(5, 7)), SAMPLES, [9, 4]) == (9, 4)
    assert image_size(model(input_size=(5, 7)), SAMPLES, None) == (5, 7)
    assert image_size(model(), SAMPLES, None) == (6, 8)
    with pytest.raises(AuditError, match=r"not known how large .* pass size=, or input_size to AuditModel, or samples"):
        image_size(model(), None, None)


@pytest.mark.parametrize("size", [0, -3, (3,), (3, 4, 5), (3, 0), 2.5, (2.5, 3), "224"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(AuditError, match=r"is no size; give a side in pixels, or \(height, width\)"):
        image_size(model(), SAMPLES, size)


def test_channels_are_those_of_the_mean_or_of_the_samples_or_of_the_first_convolution():
    assert channels_of(model(mean=(0.5,), std=(1.0,)), SAMPLES) == 1
    assert channels_of(model(), SAMPLES) == 3
    assert channels_of(model(), None) == 2
    assert channels_of(AuditModel(nn.Linear(2, 2)), None) == 3


def test_nothing_is_the_mean_of_training_or_grey():
    assert centre_colour(model(mean=(0.1, 0.2), std=(1, 1)), 2, CPU).tolist() == pytest.approx([0.1, 0.2])
    assert centre_colour(model(), 2, CPU).tolist() == [0.5, 0.5]
    assert centre_colour(model(mean=(0.0, 0.0), std=(1, 1)), 2, CPU).tolist() == [0, 0]
    assert centre_colour(model(mean=(-1.0, 2.0), std=(1, 1)), 2, CPU).tolist() == [0, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_mean_is_of_the_class_or_of_all_where_it_has_no_samples(batch_size):
    engine = Engine(CPU, batch_size)
    found = mean_images(SAMPLES, engine, [1, None, 2, 3, 1], (6, 8), title="visualize")
    mine = [[1, 2, 5], range(10), range(10), [4, 7, 8, 9], [1, 2, 5]]
    expected = torch.stack([IMAGES[list(each)].double().mean(0) for each in mine]).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_means_are_resized_and_stay_in_range():
    white = Samples.from_tensors(torch.ones(3, 3, 37, 41), [0, 1, 2])
    found = mean_images(white, Engine(CPU), [0], (24, 29), title="visualize")
    assert found.shape == (1, 3, 24, 29)
    assert 0.999 < found.min() <= found.max() <= 1
    flat = mean_images(SAMPLES, Engine(CPU), [None], (3, 4), title="visualize")
    assert float(flat.mean()) == pytest.approx(float(IMAGES.mean()), abs=0.01)


def test_without_samples_there_is_no_mean():
    with pytest.raises(AuditError, match=r"visualize needs samples for start='mean'; .* or use start='noise' or"):
        mean_images(None, Engine(CPU), [0], (6, 8), title="visualize")
