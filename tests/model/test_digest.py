"""The digest of a module: the same for the same weights, another for any other."""

import copy
import gc
import weakref
from unittest.mock import patch

import pytest
import torch
from torch import nn

from pytest_cnnaudit.model import digest as digests
from pytest_cnnaudit.model.digest import digest


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def hashed():
    """How often weights were read."""
    calls = []

    def counting(tensors):
        calls.append(len(tensors))
        return read(tensors)

    read = digests._digest
    with patch.object(digests, "_digest", counting):
        yield calls


def test_the_same_weights_have_the_same_digest():
    found = digest(net())
    assert len(found) == 16
    assert int(found, 16) >= 0
    assert found == digest(net()) == digest(copy.deepcopy(net())) == digest(net().train(False))


def test_it_is_known():
    linear = nn.Linear(2, 1)
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    assert digest(linear) == "325551d36b49c634"  # or reports of two versions could not be compared


@pytest.mark.parametrize("name", list(net().state_dict()))
def test_one_number_changes_it(name):
    module = net()
    before = digest(module)
    with torch.no_grad():
        tensor = module.state_dict(keep_vars=True)[name]
        was = tensor.clone()
        tensor.view(-1)[-1] += 1
    changed = digest(module)
    assert changed != before
    with torch.no_grad():
        tensor.copy_(was)
    assert digest(module) == before


def test_names_shapes_and_types_count():
    def holding(name, tensor):
        module = nn.Module()
        module.register_buffer(name, tensor)
        return digest(module)

    zeros = torch.zeros(2, 2)
    found = [
        holding("a", zeros), holding("b", zeros), holding("a", zeros.view(4)), holding("a", zeros.view(1, 4)),
        holding("a", zeros.view(torch.int32)), holding("a", torch.zeros(4, 4, dtype=torch.uint8)),
        holding("a", -zeros), digest(nn.Module()),
    ]  # fmt: skip
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.int64, torch.complex64]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3)])
def test_every_kind_of_tensor_has_one(dtype, shape):
    module = nn.Module()
    module.register_buffer("it", torch.ones(shape).to(dtype))
    before = digest(module)
    module.it.zero_()
    assert (digest(module) != before) == (module.it.numel() > 0)


def test_nan_is_a_number_like_any_other_here():
    module = net()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = torch.nan
    assert digest(module) == digest(module) == digest(copy.deepcopy(module)) != digest(net())


def test_how_weights_lie_in_memory_plays_no_part():
    module = net()
    before = digest(module)
    assert digest(copy.deepcopy(module).to(memory_format=torch.channels_last)) == before
    module[2].weight = nn.Parameter(module[2].weight.detach().T.contiguous().T)
    assert not module[2].weight.is_contiguous()
    assert digest(module) == before


def test_tied_weights_count_under_both_names():
    module = nn.ModuleDict({"one": nn.Linear(3, 3), "other": nn.Linear(3, 3)})
    module["other"].weight = module["one"].weight
    before = digest(module)
    untied = copy.deepcopy(module)
    untied["other"].weight = nn.Parameter(untied["one"].weight.detach().clone())
    assert digest(untied) == before  # the same numbers
    with torch.no_grad():
        untied["other"].weight[0, 0] += 1
        assert digest(untied) != before


def test_weights_are_read_once_until_they_are_written_to_or_replaced(hashed):
    module = net()
    first = digest(module)
    assert [digest(module) for _ in range(3)] == [first] * 3
    assert len(hashed) == 1
    with torch.no_grad():
        module[0].bias.add_(1)
    assert digest(module) != first
    assert len(hashed) == 2
    module.load_state_dict(net().state_dict())
    assert digest(module) == first
    assert len(hashed) == 3
    module[0].weight.data = module[0].weight.data + 1
    assert digest(module) != first
    module.register_buffer("more", torch.zeros(1))
    assert digest(module) != first
    assert len(hashed) == 5


def test_a_tensor_in_the_place_of_another_is_not_taken_for_it():
    """Memory that was given back is given out again: the same address, and as few writes."""
    storage = torch.zeros(4)

    def lying_there(value):
        storage.fill_(value)
        return nn.Parameter(torch.from_numpy(storage.numpy()))

    module = nn.Module()
    module.it = lying_there(0)
    before, address, version = digest(module), module.it.data_ptr(), module.it._version
    module.it = lying_there(1)
    assert (module.it.data_ptr(), module.it._version) == (address, version)
    assert digest(module) != before


def test_weights_made_in_inference_mode_are_read_each_time(hashed):
    """Torch does not count what is written to them."""
    with torch.inference_mode():
        module = net()
        before = digest(module)
        module[0].weight += 1
        assert digest(module) != before
    assert len(hashed) == 2


def test_a_module_is_not_kept_alive():
    module = net()
    digest(module)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_it_is_the_same_on_every_device():
    assert digest(net()) == digest(net().cuda())
