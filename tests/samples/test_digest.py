"""The digest of samples follows from their ids alone."""

import pytest
import torch

from pytest_cnnaudit import Samples
from pytest_cnnaudit.samples.digest import digest


def named(*ids):
    def load(position):
        raise AssertionError("images are not opened for a digest")

    return Samples(load, ids, source="nowhere", workers=0)


def test_it_is_known_and_opens_no_image():
    assert digest(named("a", "b")) == digest(named("a", "b"))
    assert digest(named("a")) == "e357ae2bc133f242"  # or reports of two versions could not be compared


@pytest.mark.parametrize("ids", [("b", "a"), ("a",), ("ab",), ("a", "b", "c"), ("a", "1 b"), ("a", "B"), ("a1 b",)])
def test_other_names_or_another_order_change_it(ids):
    assert digest(named(*ids)) != digest(named("a", "b"))


def test_a_part_has_its_own_and_labels_and_images_play_no_part():
    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    one, other = Samples.from_tensors(images, [0] * 6), Samples.from_tensors(1 - images, [1] * 6)
    assert digest(one) == digest(other)
    assert digest(one[:3]) == digest(one[[0, 1, 2]]) != digest(one)


def test_a_file_name_of_any_bytes_will_do():
    strange = b"caf\xe9/\xff.png".decode("utf-8", "surrogateescape")
    assert len(digest(named(strange))) == 16
    assert digest(named(strange)) != digest(named(b"caf\xe9/\xfe.png".decode("utf-8", "surrogateescape")))
