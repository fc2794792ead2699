"""What the benchmarks share: one thread, passes counted whoever makes them, and the floor that time is held against."""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from pytest_cnnaudit import AuditModel
from pytest_cnnaudit.results import Cost


class Counted(torch.nn.Module):
    """A model as other libraries take it, that counts the passes of samples through it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, images):
        self.forwards += len(images)
        images = images.view_as(images)
        if images.requires_grad:
            images.register_hook(lambda gradient: gradient.contiguous())  # torchattacks' FAB views it as such
        logits = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, gradient):
        self.backwards += len(gradient)


class Spent(NamedTuple):
    """What a piece of work returned, and what it took."""

    result: object
    forwards: int
    backwards: int
    over_floor: float

    @property
    def passes(self):
        return self.forwards + self.backwards


def plain(model, images, labels):
    """The floor: forward and input-gradient passes, unfolded, in contiguous order, weights frozen; nothing else."""
    images = images.clone().requires_grad_()
    torch.autograd.grad(torch.nn.functional.cross_entropy(model(images), labels, reduction="sum"), images)


def plain_forward(model, images, _labels):
    with torch.no_grad():
        model(images)


class Bench:
    """Images, labels and a borrowed model, and the price of work done with them."""

    def __init__(self, audit_model: AuditModel, borrowed, images, labels):
        self.audit_model, self.model, self.images, self.labels = audit_model, borrowed, images, labels

    def correct(self, images=None) -> torch.Tensor:
        with torch.no_grad():
            return self.model(self.images if images is None else images).argmax(1) == self.labels

    def accuracy(self, images) -> float:
        return float(self.correct(images).float().mean())

    def theirs(self, work: Callable) -> Spent:
        """`work(model)` with a model that counts."""
        counted = Counted(self.model).eval()
        torch.manual_seed(0)
        return self._priced(lambda: work(counted), lambda _: Cost(counted.forwards, counted.backwards))

    def ours(self, work: Callable, limit: float = torch.inf) -> Spent:
        """`work()`, whose passes the borrowed model counts; what is over the `limit` is measured anew: see `_held`."""

        before = self.model.cost

        def start():
            nonlocal before
            before = self.model.cost
            return work()

        return _held(lambda: self._priced(start, lambda _: self.model.cost - before), limit)

    def audited(self, work: Callable, limit: float = torch.inf) -> Spent:
        """`work()`, which returns a measurement that counts; `limit` as in `ours`."""
        return _held(lambda: self._priced(work, lambda found: found.cost), limit)

    def _priced(self, work: Callable, passes: Callable[[object], Cost]) -> Spent:
        """What work took, over the price of its passes just before and just after it: the machine's pace drifts."""
        before = self._price()
        began = time.process_time()
        result = work()
        spent, cost = time.process_time() - began, passes(result)  # the price is paid in passes, too
        both, forward = (sum(each) / 2 for each in zip(before, self._price(), strict=True))
        floor = cost.backward * both + (cost.forward - cost.backward) * forward
        return Spent(result, cost.forward, cost.backward, spent / floor)

    def _price(self) -> tuple[float, float]:
        """Seconds of a plain pass forward and backward, and of one forward, for one sample of a full batch."""
        count, rounds = len(self.images), 2
        took = []
        for work in (plain, plain_forward):
            began = time.process_time()
            for _ in range(rounds):
                work(self.model, self.images, self.labels)
            took.append((time.process_time() - began) / rounds / count)
        return took[0], took[1]


def _held(measure: Callable[[], Spent], limit: float) -> Spent:
    """The first of three measurements within the limit, or the last.

    Other work on the machine slows one for a while, and nothing makes one faster.
    """
    for _ in range(3):
        spent = measure()
        if spent.over_floor <= limit:
            break
    return spent


@pytest.fixture
def bench(request, cifar_samples):
    """Makes a `Bench`: bench(name of a model's fixture, number of images)."""
    opened = []

    def make(name, count, *, only_correct=False):
        audit_model = request.getfixturevalue(name)
        borrowing = audit_model.borrow()
        borrowed = borrowing.__enter__()
        opened.append(borrowing)
        batch = next(cifar_samples.batches(count))
        images, labels = batch.images.contiguous(), batch.labels
        made = Bench(audit_model, borrowed, images, labels)
        if only_correct:
            right = made.correct()
            made.images, made.labels = images[right], labels[right]
        plain(borrowed, made.images, made.labels)  # the first pass of a process is slower
        return made

    yield make
    for borrowing in opened:
        borrowing.__exit__(None, None, None)


@pytest.fixture
def counted():
    """A model as other libraries take it."""
    return lambda model: Counted(model).eval()


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other burn process time, the more the busier the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def show(capsys):
    """Prints a line of figures, captured or not."""

    def line(name, spent, figure=""):
        with capsys.disabled():
            print(
                f"\n  {name:34} {figure:42} forward {spent.forwards:7,}  backward {spent.backwards:7,}"
                f"  {spent.over_floor:5.2f} of its floor",
                end="",
            )

    return line


@pytest.fixture
def compare(capsys):
    """Process time of several works over that of the first of them, the floor: medians over rounds, all in turns.

    `compare(title, works, rounds, brief=names)`: those so slow that three rounds tell. What does not hold is measured
    anew, twice at the most: other work on the machine slows one of them for a while, and nothing makes one faster.
    """

    def measure(title, works, rounds, brief=(), holds=lambda _: True):
        for work in works.values():  # the first pass of a process is slower
            _spent(work)
        for _ in range(3):
            over = once(title, works, rounds, brief)
            if holds(over):
                break
        return over

    def once(title, works, rounds, brief):
        took = {name: [] for name in works}
        for turn in range(rounds):
            for name, work in works.items():
                if turn < 3 or name not in brief:
                    took[name].append(_spent(work))
        floor = took.pop("floor")
        over = {
            name: statistics.median(mine / its for mine, its in zip(times, floor, strict=False))
            for name, times in took.items()
        }
        with capsys.disabled():
            figures = "  ".join(f"{name} {ratio:.2f}" for name, ratio in over.items())
            print(f"\n  {title:22} floor {1000 * statistics.median(floor):6.0f} ms  {figures}", end="")
        return over

    return measure


def _spent(work):
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries', about hooks and inputs
        work()
    return time.process_time() - began


@pytest.fixture
def within():
    """Whether ours is within its floor, and no slower than any library (5% is what two equal works differ by)."""

    def holds(over, limit=1.05):
        best = min((ratio for name, ratio in over.items() if name != "ours"), default=torch.inf)
        return over["ours"] <= min(limit, 1.05 * best)

    return holds
