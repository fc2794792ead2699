"""The digest of a module: the same for the same weights, another for any other."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit.model.digest import digest


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_the_same_weights_have_the_same_digest():
    found = digest(net())
    assert len(found) == 16
    assert int(found, 16) >= 0
    assert found == digest(net()) == digest(copy.deepcopy(net())) == digest(net().train(False))


def test_it_is_known():
    linear = nn.Linear(2, 1)
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    assert digest(linear) == "07702388ac4325da"  # or reports of two versions could not be compared


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


@given(place=st.integers(0, 4 * 27 - 1), bit=st.integers(0, 31))
def test_one_bit_changes_it_also_through_data(place, bit):
    module = net()
    before = digest(module)
    module[0].weight.data.view(-1).view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert digest(module) != before
    module[0].weight.data.view(-1).view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert digest(module) == before


def test_swapped_weights_of_an_equal_sum_change_it():
    module = net()
    with torch.no_grad():
        module[2].weight[:] = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    before = digest(module)
    with torch.no_grad():
        module[2].weight[:] = torch.tensor([[2.0, 1, 3, 4], [5, 6, 7, 8]])
    assert digest(module) != before


def test_a_buffer_that_is_not_saved_counts():
    module = net()
    module.register_buffer("grid", torch.zeros(3), persistent=False)
    assert "grid" not in module.state_dict()
    before = digest(module)
    module.grid[1] = 1
    assert digest(module) != before


def test_a_state_dict_that_leaves_weights_out_hides_none():
    module = net()
    module._register_state_dict_hook(lambda module, state, prefix, _: state.clear())
    before = digest(module)
    module[2].weight.data[0, 0] += 1
    assert digest(module) != before


def test_mode_and_gradients_play_no_part():
    module = net()
    before = digest(module)
    module.eval().requires_grad_(False)
    assert digest(module) == before
    module.requires_grad_()
    module[0](torch.rand(1, 3, 4, 4)).sum().backward()
    assert module[0].weight.grad is not None
    assert digest(module) == before


def test_weights_made_in_inference_mode_are_read_like_others():
    with torch.inference_mode():
        module = net()
        before = digest(module)
        module[0].weight += 1
    assert digest(module) != before


@pytest.mark.parametrize("place", [0, 2**20 - 1, 2**20, 3 * 2**20 - 1])
def test_every_place_of_a_large_tensor_counts(place):
    """It is hashed in pieces of 4 MiB, by several threads."""
    module = nn.Module()
    module.register_buffer("it", torch.zeros(3 * 2**20))
    before = digest(module)
    module.it[place] = 1
    assert digest(module) != before


def test_the_number_of_threads_plays_no_part(monkeypatch):
    module = nn.Linear(2048, 2048)
    before = digest(module)
    monkeypatch.setattr("pytest_cnnaudit.canonical._WORTH_THREADS", 2**40)
    assert digest(module) == before


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_weights_that_are_no_plain_tensors_count():
    """Sparse ones, and those that quantised layers keep in tuples."""
    module = nn.Module()
    module.register_buffer("it", torch.eye(3).to_sparse())
    before = digest(module)
    module.it = torch.eye(3).mul(2).to_sparse()
    assert digest(module) != before

    class Packed(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.held = torch.quantize_per_tensor(torch.tensor([value]), 0.1, 0, torch.qint8), None

        def get_extra_state(self):
            return self.held

    assert digest(Packed(1.0)) == digest(Packed(1.0)) != digest(Packed(2.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_it_is_the_same_on_every_device():
    assert digest(net()) == digest(net().cuda())
