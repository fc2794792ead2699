import numpy as np
import pytest
import torch

from pytest_cnnaudit import AuditError, AuditModel, Samples
from pytest_cnnaudit.audits.robustness import measure_robustness
from pytest_cnnaudit.audits.saliency import measure_saliency
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.results import Exhibit

CPU = torch.device("cpu")
SAMPLES = Samples.from_tensors(torch.arange(40).float()[:, None, None, None].expand(-1, 1, 2, 2) / 40, torch.arange(40))


def brightness(batch):
    return Part(batch.positions, {"mean": batch.images.mean((1, 2, 3)).numpy(), "label": batch.labels.numpy()})


class Step:
    """Measures, remembers the batch sizes it saw, and raises what it is given above a batch size."""

    def __init__(self, error=None, at_most=10**9):
        self.error, self.at_most, self.sizes = error, at_most, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.at_most:
            raise self.error
        return brightness(batch)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 40, 64, None])
def test_the_batch_size_never_changes_a_result(batch_size):
    found = Engine(CPU, batch_size).measure(SAMPLES, brightness, title="x")
    assert found.positions.tolist() == list(range(40))
    assert found["label"].tolist() == list(range(40))
    np.testing.assert_allclose(found["mean"], np.arange(40) / 40, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_the_batch_size_never_changes_an_attack_or_a_map(tiny_net, batch_size):
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = AuditModel(tiny_net())
    samples = Samples.from_tensors(images, model(images).argmax(1), boxes=[(1, 2, 6, 7)] * 10)

    def measured(size):
        engine = Engine(CPU, size)
        yield measure_robustness(model, samples, engine, eps=0.02, norm="l2", options={"steps": 3, "restarts": 2})
        yield measure_saliency(model, samples, engine, method="gradient", options={})

    for one, other in zip(measured(batch_size), measured(10), strict=True):
        assert one.ids == other.ids
        for name, values in one.per_sample.items():
            np.testing.assert_allclose(values, other.per_sample[name], atol=1e-9, err_msg=name)
        assert [row.title for each in one.exhibits if isinstance(each, Exhibit) for row in each.rows] == [
            row.title for each in other.exhibits if isinstance(each, Exhibit) for row in each.rows
        ]


def test_batches_are_as_large_as_asked_for():
    step = Step()
    Engine(CPU, 16).measure(SAMPLES, step, title="x")
    assert step.sizes == [16, 16, 8]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "host"],
)
def test_out_of_memory_halves_the_batch_and_goes_on_without_measuring_twice(error):
    step = Step(error, at_most=5)
    found = Engine(CPU, 32).measure(SAMPLES, step, title="x")
    assert found["label"].tolist() == list(range(40))
    assert step.sizes[:4] == [32, 16, 8, 4]
    assert max(step.sizes[4:]) == 4  # what once was too much is not tried again
    assert sum(size for size in step.sizes if size <= 5) == 40


def test_where_a_step_gets_several_batches_the_first_that_is_smaller_is_half_of_one():
    for size, sizes in ((8, [32, 4]), (1, [4, 1])):
        step = Step(MemoryError(), at_most=4 if size == 8 else 1)
        found = Engine(CPU, size).measure(SAMPLES, step, title="x", batches=4)
        assert found["label"].tolist() == list(range(40))
        assert step.sizes[:2] == sizes
        assert max(step.sizes[1:]) == sizes[1]


def test_out_of_memory_at_one_sample_is_one_clear_error():
    step = Step(RuntimeError("DefaultCPUAllocator: can't allocate memory"), at_most=0)
    with pytest.raises(AuditError, match=r"Out of memory on cpu at batch size 1 \(sample 00, image 1×2×2\)") as caught:
        Engine(CPU, 5).measure(SAMPLES, step, title="x")
    assert step.sizes == [5, 2, 1]
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")]
)
def test_other_errors_pass_through_at_once(error):
    step = Step(error, at_most=0)
    with pytest.raises(type(error)) as caught:
        Engine(CPU, 32).measure(SAMPLES, step, title="x")
    assert caught.value is error
    assert step.sizes == [32]


def test_measuring_stops_as_soon_as_the_verdict_is_decided():
    step = Step()
    found = Engine(CPU, 8).measure(SAMPLES, step, title="x", decided=lambda part: len(part) >= 16)
    assert found.positions.tolist() == list(range(16))
    assert step.sizes == [8, 8]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 32, 32), 1024), ((1, 2, 2), 1024), ((3, 224, 224), 128), ((3, 1024, 1024), 8), ((3, 4000, 4000), 8)],
)
def test_a_gpu_is_given_larger_batches(shape, expected):
    samples = Samples(lambda _: (torch.zeros(()).expand(shape), 0, None, None), ids=["0"], source="x", workers=0)
    assert Engine(torch.device("cuda:0")).at_once(samples) == expected
    assert Engine(torch.device("cuda:0"), 7).at_once(samples) == 7


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 32, 32), 256), ((1, 2, 2), 256), ((3, 224, 224), 16), ((3, 1024, 1024), 8), ((3, 2000, 2000), 8)],
)
def test_the_default_batch_size_falls_with_the_size_of_an_image(shape, expected):
    samples = Samples(
        lambda _: (torch.zeros(()).expand(shape), 0, None, None), ids=list(map(str, range(300))), source="x", workers=0
    )
    sizes = []

    def step(batch):
        sizes.append(len(batch))
        return Part(batch.positions, {})

    Engine(CPU).measure(samples[: expected + 1], step, title="x")
    assert sizes == [expected, 1]


def test_no_progress_bar_where_stderr_is_no_terminal(capfd, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    Engine(CPU, 1).measure(SAMPLES, brightness, title="a bar")
    assert capfd.readouterr() == ("", "")


def test_samples_are_streamed_rather_than_loaded_at_once():
    loaded = []

    def load(position):
        loaded.append(position)
        return torch.zeros(1, 2, 2), 0, None, None

    samples = Samples(load, ids=list(map(str, range(100))), source="x", workers=0)
    Engine(CPU, 4).measure(samples, brightness, title="x", decided=lambda part: True)
    assert len(loaded) <= 6
