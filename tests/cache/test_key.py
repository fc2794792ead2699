"""The key of a result: the same for the same measurement, another where anything differs that it depends on."""

import copy
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.cache import key as keys
from pytest_cnnaudit.cache.key import alike, key
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.lenses.recipes import Recipe

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ENGINE = Engine(torch.device("cpu"), 4, 7, "test.py::test_it")


def measure(*given, **arguments):
    raise AssertionError("a key measures nothing")


def other(*given, **arguments):
    raise AssertionError("a key measures nothing")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 3)
        self.register_buffer("shift", torch.zeros(4, 1, 1), persistent=False)
        self.scale = 2

    def forward(self, x):
        return self.head((self.act(self.norm(self.conv(x))) * self.scale + self.shift).mean((2, 3)))


def net():
    torch.manual_seed(0)
    return Net().eval()


def model(module=None, **words):
    given = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "name": "net", "class_names": ("a", "b", "c")}
    return AuditModel(net() if module is None else module, **{**given, **words})


def samples(images=IMAGES, labels=(0, 1, 2, 0, 1, 2), **given):
    return Samples.from_tensors(images, labels, **given)


def found(a_model=None, some=None, engine=ENGINE, measured=measure, **arguments):
    """The key of a measurement, and None where there is none."""
    given = (model() if a_model is None else a_model, samples() if some is None else some, engine)
    return key(measured, given, {"eps": 0.1, "options": {"steps": 3, "restarts": 1}, **arguments})


def hits(one, two):
    return one.digest == two.digest and alike(one.outputs, two.outputs)


def test_the_same_measurement_has_the_same_key():
    one = found()
    assert len(one.digest) == 32
    assert int(one.digest, 16) >= 0
    assert one.outputs.shape == (4, 3)
    assert hits(one, found())
    assert hits(one, found(options={"restarts": 1, "steps": 3}))


def trained(module):
    return module.train()


def thawed(module):
    return module.requires_grad_(True)


def with_gradients(module):
    module(IMAGES).sum().backward()
    assert module.head.weight.grad is not None
    return module


def loaded(module):
    made = Net()
    made.load_state_dict(module.state_dict())
    return made


@pytest.mark.parametrize("do", [trained, thawed, with_gradients, loaded, copy.deepcopy])
def test_what_changes_nothing_about_a_model_hits(do):
    module = net()
    before = found(model(module))
    assert hits(found(model(do(module))), before)


def add(tensor, amount=1e-6):
    tensor.data.view(-1)[0] += amount


def swap(tensor):
    tensor.data.view(-1)[:2] = tensor.data.view(-1)[:2].flip(0).clone()


CHANGES = {
    "a weight": lambda module: add(module.conv.weight),
    "a bit": lambda module: module.head.bias.data.view(torch.int32).bitwise_xor_(1),
    "a pair of weights": lambda module: swap(module.head.bias),
    "a buffer": lambda module: add(module.norm.running_mean),
    "a buffer that is not saved": lambda module: add(module.shift),
    "an attribute": lambda module: setattr(module, "scale", 2 + 1e-9),
    "the class of a layer": lambda module: setattr(module, "act", nn.GELU()),
    "an argument of a layer": lambda module: setattr(module.norm, "eps", 1e-4),
    "a dropout": lambda module: setattr(module, "act", nn.Sequential(module.act, nn.Dropout(0.5))),
    "a hook": lambda module: module.conv.register_forward_hook(lambda *_: None),
    "code": lambda module: setattr(Net, "forward", doubled),
}


def doubled(self, x):
    return 2 * self.head((self.act(self.norm(self.conv(x))) * self.scale + self.shift).mean((2, 3)))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_a_model_misses(change, monkeypatch):
    monkeypatch.setattr(Net, "forward", Net.forward)  # put back afterwards
    module = net()
    before = found(model(module))
    change(module)
    assert found(model(module)).digest != before.digest


@pytest.mark.parametrize(
    "words",
    [
        {"mean": (0.5, 0.5, 0.4)}, {"std": (0.25, 0.25, 0.2)}, {"mean": None, "std": None}, {"name": "other"},
        {"class_names": ("a", "b", "d")}, {"class_names": None}, {"input_size": (8, 8)}, {"output": lambda it: it},
    ],
    ids=lambda words: next(iter(words)),
)  # fmt: skip
def test_any_word_of_a_model_misses(words):
    assert found(model(**words)).digest != found().digest


def test_code_that_no_digest_sees_gives_other_outputs(monkeypatch):
    """Here a function that the model calls."""
    before = found()
    monkeypatch.setattr(torch.Tensor, "mean", lambda tensor, dims: tensor.sum(dims))
    now = found()
    assert now.digest == before.digest
    assert not hits(now, before)


@pytest.mark.parametrize(
    "some",
    [
        samples(IMAGES.flip(3)), samples(IMAGES.flip(0)), samples(labels=(0, 1, 2, 0, 1, 1)), samples()[:5],
        samples(ids="abcdef"), samples(class_names=("a", "b", "c")), samples(masks=[torch.ones(8, 8)] * 6),
        samples(boxes=[(0, 0, 1, 1)] * 6), IMAGES, None,
    ],
)  # fmt: skip
def test_other_samples_miss(some):
    assert (
        key(measure, (model(), some, ENGINE), {"size": 8}).digest
        != key(measure, (model(), samples(), ENGINE), {"size": 8}).digest
    )


def test_one_pixel_written_in_place_misses():
    images = IMAGES.clone()
    some = samples(images)
    before = found(some=some)
    images[5, 0, 0, 0] = 1 - images[5, 0, 0, 0]  # not among the images that the model is asked about
    now = found(some=some)
    assert now.digest != before.digest
    assert alike(now.outputs, before.outputs)


@pytest.mark.parametrize(
    "change", [{"batch_size": 2}, {"batch_size": None}, {"seed": 8}, {"scope": "b"}, {"precision": "bfloat16"}], ids=str
)
def test_any_setting_of_the_engine_misses(change):
    assert found(engine=replace(ENGINE, **change)).digest != found().digest


def test_neither_the_number_of_a_gpu_nor_finished_batches_count(monkeypatch):
    names = {0: "fast", 1: "fast", 2: "slow"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])
    one, two, slow = (keys._engine(Engine(torch.device("cuda", number))) for number in names)
    assert one == two != slow
    assert keys._engine(Engine(torch.device("cpu"))) not in (one, slow)
    assert hits(found(engine=replace(ENGINE, resumed=lambda step: step)), found())


ARGUMENTS = [
    {}, {"it": None}, {"it": 1}, {"it": True}, {"it": 1.0}, {"it": "1"}, {"it": (1,)}, {"it": [1]}, {"other": 1},
    {"it": torch.ones(1)}, {"it": torch.ones(1, 1)}, {"it": torch.ones(1).double()}, {"it": torch.zeros(1)},
    {"it": np.ones(1)}, {"it": np.zeros(1)}, {"it": np.ones((1, 1))}, {"it": np.ones(1, np.float32)}, {"it": slice(1)},
    {"it": {"a": [torch.ones(1)]}}, {"it": {"a": [torch.zeros(1)]}}, {"it": Recipe()}, {"it": Recipe(steps=3)},
    {"it": [Recipe()]}, {"options": {"steps": 4, "restarts": 1}}, {"options": {"steps": 3}}, {"it": model()},
]  # fmt: skip


def test_any_argument_counts_with_its_type():
    digests = [found(**arguments).digest for arguments in ARGUMENTS]
    assert len(set(digests)) == len(digests)
    assert digests == [found(**copy.deepcopy(arguments)).digest for arguments in ARGUMENTS]


def test_given_by_place_and_by_name_and_other_measurements_count():
    assert key(measure, (1,), {}).digest != key(measure, (), {"it": 1}).digest
    assert found(measured=other).digest != found().digest


@dataclass(frozen=True)
class Foreign:
    number: int = 1


@pytest.mark.parametrize(
    "value",
    [
        lambda it: it, len, nn.ReLU(), object(), Foreign(), np.array([object()]), {"a": [nn.ReLU()]}, iter(()),
        IMAGES.numpy,
    ],
)  # fmt: skip
def test_what_may_do_anything_has_no_key(value):
    assert found(attack=value) is None
    assert key(measure, (value,), {}) is None
    assert found(attack="pgd") is not None


def raising(*_, **__):
    raise RuntimeError("of the user's own")


def test_where_the_model_or_the_samples_raise_there_is_no_key(monkeypatch):
    class Broken(list):
        def __getitem__(self, position):
            raise OSError("the disk is full")

    assert found(some=Samples.from_dataset(Broken("ab"))) is None
    assert found(model(input_size=(9, 9))) is None
    assert found(some=samples(torch.full((2, 3, 8, 8), 2.0), (0, 0))) is None
    monkeypatch.setattr(Net, "forward", raising)
    assert found() is None


def test_without_an_engine_no_model_runs(monkeypatch):
    one, two = model(), model(name="two")
    monkeypatch.setattr(Net, "forward", raising)
    assert key(measure, (one, "conv"), {}).outputs is None
    assert key(measure, (one, [two]), {}).digest == key(measure, (one, [model(name="two")]), {}).digest


def test_whether_two_models_are_one_counts():
    """`filter_banks` leaves out of the others what is the audited layer itself."""
    one = model()
    assert key(measure, (one, [one]), {}).digest != key(measure, (one, [model()]), {}).digest
    inside = nn.Sequential(one.module)
    assert key(measure, (one, [model(inside)]), {}).digest != (
        key(measure, (one, [model(copy.deepcopy(inside))]), {}).digest
    )


def test_without_samples_the_model_is_asked_about_other_images():
    """About a tensor that is given, or about noise of the size of the images that will be made."""
    given = key(measure, (model(), (IMAGES * 255).byte(), ENGINE), {})
    torch.testing.assert_close(given.outputs, found().outputs, rtol=0, atol=0.02)
    one = key(measure, (model(), IMAGES[0], ENGINE), {})
    assert alike(one.outputs, found().outputs[:1])
    start = key(measure, (model(), None, ENGINE), {"start": IMAGES})
    assert alike(start.outputs, found().outputs)
    sized = key(measure, (model(), None, ENGINE), {"size": 12})
    assert sized.outputs.shape == (4, 3)
    assert alike(sized.outputs, key(measure, (model(), None, ENGINE), {"size": 12}).outputs)
    assert key(measure, (model(input_size=(12, 12)), None, ENGINE), {}).outputs.shape == (4, 3)
    assert key(measure, (model(), None, ENGINE), {}) is None  # nobody knows how large


def test_a_key_costs_one_pass_of_four_samples_and_changes_nothing():
    module, batches = net().train(), []
    module.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    state, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    assert found(model(module)) is not None
    assert batches == [4]
    assert all(part.training for part in module.modules())
    assert all(torch.equal(module.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert found(model(module), samples()[:2]).outputs.shape == (2, 3)


class Asked(Exception):
    pass


class Keys:
    """In place of a cache: makes the key of a measurement, and measures nothing."""

    def measured(self, measure, *given, **arguments):
        self.found = key(measure, given, arguments)
        raise Asked


def asked(question, *given, **arguments):
    audit = Audit(model(), samples(boxes=[(0, 0, 4, 4)] * 6), device="cpu", cache=Keys())
    with pytest.raises(Asked):
        getattr(audit, question)(*given, **arguments)
    return audit._cache.found


QUESTIONS = [
    ("filters",), ("filter_banks", model(name="two")), ("attack", 0.1), ("robustness_curve",), ("min_perturbation",),
    ("fool", None, 1), ("fool", IMAGES[0], 1), ("gradient_masking",), ("activations", "conv"), ("top_patches",),
    ("saliency",), ("saliency_faithfulness",), ("saliency_sanity",), ("neighbours",), ("neuron", "conv", 1),
    ("visualize", [0, ("conv", 1)]), ("assert_visualizes", "a"), ("dream", None, "conv"),
    ("dream", IMAGES, {"conv": 1.0}), ("fooling_images",), ("assert_rejects_noise", [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question[0])
def test_every_question_has_a_key(question):
    one, two = asked(*question), asked(*question)
    assert one.digest == two.digest
    assert (one.outputs is None) == question[0].startswith("filter")


def test_questions_with_a_callable_have_none():
    assert asked("attack", 0.1, attack=lambda *_: None) is None
    assert asked("saliency", lambda *_: None) is None


def test_code_of_this_package_and_versions_count(tmp_path, monkeypatch):
    (tmp_path / "pytest_cnnaudit").mkdir()
    file = tmp_path / "pytest_cnnaudit" / "it.py"
    monkeypatch.setattr(keys, "_PACKAGE", tmp_path)
    seen = []

    def look():
        keys._versions.cache_clear()
        seen.append(key(measure, (), {}).digest)

    try:
        for text in ("a = 1", "a = 2"):
            file.write_text(text)
            look()
        file.rename(file.with_name("other.py"))
        look()
        for library in ("none", "pytest-cnnaudit", "torch", "torchvision", "numpy", "pillow", "scipy"):
            with monkeypatch.context() as patched:
                patched.setattr(
                    keys,
                    "versions",
                    lambda *names, newer=library: {each: "9" if each == newer else "1" for each in names},
                )
                look()
        with monkeypatch.context() as patched:
            patched.setattr(keys.platform, "python_version_tuple", lambda: ("3", "99", "0"))
            look()
    finally:
        keys._versions.cache_clear()
    assert len(set(seen)) == len(seen)


SCRIPT = """
import sys
from pathlib import Path
import torch
from pytest_cnnaudit import AuditModel, Samples
from pytest_cnnaudit.audits.masking import measure_masking
from pytest_cnnaudit.cache import key as keys
from pytest_cnnaudit.engine import Engine

torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
given = AuditModel(module), Samples.from_tensors(torch.rand(6, 3, 8, 8), range(6)), Engine(torch.device("cpu"))
"""


def test_it_is_the_same_in_another_process(tmp_path, monkeypatch):
    (tmp_path / "it.py").touch()  # in place of this package, which may be edited meanwhile
    asking = 'keys.key(measure_masking, given, {"a": {"b", "c"}}).digest'
    run = subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}\nkeys._PACKAGE = Path(sys.argv[1])\nprint({asking})", tmp_path],
        env={**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    monkeypatch.setattr(keys, "_PACKAGE", tmp_path)
    keys._versions.cache_clear()
    try:
        space = {}
        exec(SCRIPT, space)
        assert run.stdout.strip() == eval(asking, space)
    finally:
        keys._versions.cache_clear()
