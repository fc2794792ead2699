import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from pytest_cnnaudit import AuditError, Samples

IMAGES = torch.arange(10.0)[:, None, None, None].expand(-1, 3, 4, 5) / 10
LABELS = torch.arange(10) % 3


def tensors(**options):
    return Samples.from_tensors(IMAGES, LABELS, **options)


# Tensors and data sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.numpy(), lambda x: x.double()])
def test_tensors_and_arrays_are_taken(make):
    sample = Samples.from_tensors(make(IMAGES), make(LABELS).tolist())[4]
    assert (sample.label, sample.id, sample.image.shape) == (1, "4", (3, 4, 5))
    assert sample.image.mean() == pytest.approx(0.4)


def test_bytes_are_divided_by_255():
    image = Samples.from_tensors(np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3), [0])[0].image
    assert image.flatten().tolist() == pytest.approx([0, 0.2, 1])


class HuggingFace:
    """Dicts, as a Hugging Face data set gives them."""

    def __init__(self, image="image", label="label"):
        self.names = image, label

    def __len__(self):
        return 3

    def __getitem__(self, position):
        if not 0 <= position < 3:
            raise IndexError(position)
        picture = Image.new("RGB", (5, 4), (51 * position, 0, 255))
        return {self.names[0]: picture, self.names[1]: position, "other": None}


class TorchVision:
    """Pairs, as a torchvision data set gives them, with the names of the classes."""

    classes = ("a", "b", "c")

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 3

    def __getitem__(self, position):
        return self.transform(Image.new("RGB", (5, 4), (51 * position, 0, 255))), position


@pytest.mark.parametrize(
    "dataset",
    [
        HuggingFace(),
        HuggingFace("img", "fine_label"),
        TorchVision(lambda image: image),
        TorchVision(lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1)),
        TorchVision(lambda image: torch.from_numpy(np.array(image) / np.float32(255)).permute(2, 0, 1)),
    ],
)
def test_data_sets_of_pairs_and_of_dicts_are_taken(dataset):
    samples = Samples.from_dataset(dataset)
    assert len(samples) == 3
    assert [sample.label for sample in samples] == [0, 1, 2]
    assert samples[2].image.shape == (3, 4, 5)
    assert samples[2].image[:, 0, 0].tolist() == pytest.approx([0.4, 0, 1])
    assert samples.class_names == getattr(dataset, "classes", None)


def test_a_greyscale_picture_has_one_channel():
    dataset = [(Image.new("L", (5, 4), 255), 0)]
    assert Samples.from_dataset(dataset)[0].image.shape == (1, 4, 5)


@pytest.mark.parametrize(
    "item", ["text", (IMAGES[0],), {"image": IMAGES[0]}, {"label": 1}, 7, (IMAGES[0], "cat"), (IMAGES[0], None)]
)
def test_an_item_that_is_no_pair_is_named_with_its_place(item):
    with pytest.raises(AuditError, match=r"Item 1 of the data set is (str|tuple|dict|int)"):
        list(Samples.from_dataset([(IMAGES[0], 0), item]))


def test_a_dataset_can_have_ids_a_limit_and_workers():
    samples = Samples.from_dataset(TensorDataset(IMAGES, LABELS), ids=list("abcdefghij"), limit=4, seed=1, workers=2)
    assert len(samples) == 4
    assert [sample.id for sample in samples] == list(samples.ids)
    assert all(sample.label == "abcdefghij".index(sample.id) % 3 for sample in samples)


# Boxes and masks ----------------------------------------------------------------------------------------------------


def test_boxes_are_one_or_several_an_image_or_none():
    boxes = [None, (1, 0, 3, 2), [(0, 0, 1, 1), (4, 3, 5, 4)], *[None] * 7]
    samples = tensors(boxes=boxes)
    assert samples[0].region() is None
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[0:2, 1:3] = True
    assert samples[1].region().equal(expected)
    assert samples[2].region().nonzero().tolist() == [[0, 0], [3, 4]]


def test_a_mask_goes_before_a_box():
    mask = torch.zeros(10, 4, 5)
    mask[:, 2, 2] = 1
    sample = tensors(masks=mask, boxes=[(0, 0, 5, 4)] * 10)[3]
    assert sample.region().nonzero().tolist() == [[2, 2]]
    assert sample.region().dtype == torch.bool


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 255), "values from 0 to 255; images are in .0, 1.. Divide by 255"),
        ((-2, 0, 2), "values from -2 to 2.*Leave normalisation to AuditModel"),
        ((-0.01, 0, 1), "values from -0.01 to 1"),
        ((0, 1, 1.001), "to 1"),
        ((0, math.nan, 1), "values from nan to nan"),
        ((0, 0, math.inf), "to inf"),
    ],
)
def test_values_outside_the_range_are_named_with_the_sample(values, message):
    images = IMAGES.clone()
    images[7, 0, 0, :3] = torch.tensor(values)
    with pytest.raises(AuditError, match=f"image of 7 has .*{message}"):
        list(Samples.from_tensors(images, LABELS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tensors(ids=["a", "b"] * 5), "id 'a' stands for more than one"),
        (lambda: tensors(ids=["a"]), "10 images but 1 ids"),
        (lambda: tensors(boxes=[None]), "10 images but 1 boxes"),
        (lambda: tensors(masks=torch.zeros(9, 4, 5)), "10 images but 9 masks"),
        (lambda: Samples.from_tensors(IMAGES, LABELS[:9]), "10 images but 9 labels"),
        (lambda: Samples.from_tensors(IMAGES[0], LABELS[:3]), r"shape \(3, 4, 5\); they must be N×C×H×W"),
        (lambda: Samples.from_tensors(IMAGES[:0], LABELS[:0]), "no samples in tensors"),
        (lambda: Samples.from_dataset([]), "no samples in list"),
        (lambda: tensors(limit=0), "limit=0"),
        (lambda: tensors(masks=torch.zeros(10, 5, 4))[0], r"mask of 0 is \(5, 4\), its image \(4, 5\)"),
        (lambda: Samples.from_dataset([(torch.rand(4, 5), 0)])[0], r"item 0 has the shape \(4, 5\); it must be C×H×W"),
        (lambda: tensors()[5:5], "no samples left"),
        (lambda: tensors()[np.zeros(10, bool)], "no samples left"),
        (lambda: tensors(boxes=[(1, 2, 3)] * 10)[0], "box"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(make, message):
    with pytest.raises(AuditError, match=message):
        make()


def test_images_of_different_sizes_are_both_named():
    samples = Samples.from_dataset([(torch.rand(3, 4, 5), 0), (torch.rand(3, 4, 6), 0)], ids=["left", "right"])
    with pytest.raises(AuditError, match=r"right is 3×4×6, that of left 3×4×5.*size="):
        list(samples.batches(2))


def test_images_of_different_sizes_are_refused_whatever_the_batch_size():
    samples = Samples.from_dataset([(torch.rand(3, 4, 5), 0), (torch.rand(3, 4, 6), 0)])
    with pytest.raises(AuditError, match="size="):
        list(samples.batches(1))


# Parts, order, batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "ids"),
    [
        (slice(2, 5), "234"), (slice(None, None, -3), "9630"), (slice(-2, None), "89"), ([7, 0, -1], "709"),
        (np.array([3, 3 - 1]), "32"), (np.arange(10) > 7, "89"), ((np.arange(10) > 7).tolist(), "89"),
        (torch.tensor([1, 2]), "12"),
    ],
)  # fmt: skip
def test_a_part_holds_the_samples_asked_for(part, ids):
    chosen = tensors()[part]
    assert chosen.ids == tuple(ids)
    assert [round(float(sample.image.mean()) * 10) for sample in chosen] == list(map(int, ids))


def test_a_part_of_a_part_counts_from_the_part():
    assert tensors()[2:8][1:][[-1, 0]].ids == ("7", "3")


def test_one_sample_is_taken_by_its_position():
    samples = tensors()
    assert samples[3].id == samples[np.int64(3)].id == "3"
    assert samples[-1].id == "9"
    with pytest.raises(IndexError):
        samples[10]


def test_a_limit_is_stable_and_a_part_of_the_whole():
    drawn = [tensors(limit=4, seed=seed).ids for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all(list(ids) == sorted(ids) and len(set(ids)) == 4 for ids in drawn)
    assert tensors(limit=10).ids == tensors().ids


def test_ids_sort_like_their_positions():
    assert Samples.from_tensors(torch.zeros(101, 1, 1, 1), [0] * 101).ids[:101:50] == ("000", "050", "100")


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_batches_hold_all_samples_in_order(size):
    batches = list(tensors().batches(size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert np.concatenate([batch.positions for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch.images for batch in batches]).equal(IMAGES)
    assert torch.cat([batch.labels for batch in batches]).equal(LABELS)


def test_a_slice_of_a_batch_is_a_batch():
    (batch,) = tensors().batches(10)
    piece = batch[4:6]
    assert (len(piece), piece.positions.tolist(), piece.labels.tolist()) == (2, [4, 5], [1, 2])
    assert piece.images.equal(IMAGES[4:6])


def test_it_says_what_it_is():
    assert repr(tensors()[2:4]) == "<Samples: 2 of tensors (10 images)>"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_in_half_precision_become_single_and_finer_ones_stay(dtype):
    image = Samples.from_tensors(torch.full((1, 1, 2, 2), 0.25, dtype=dtype), [0])[0].image
    assert image.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (image == 0.25).all()
