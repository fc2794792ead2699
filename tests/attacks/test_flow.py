import hypothesis.strategies as st
import torch
from hypothesis import given

from pytest_cnnaudit.attacks.flow import flow

steps_needed = st.lists(st.integers(1, 6), min_size=1, max_size=12)
places = st.none() | st.integers(1, 14)


class Countdown:
    """An attack on samples that need so many steps each; a sample's result is its number, and the steps it took."""

    def __init__(self, needed):
        self.needed, self.started, self.batches = torch.tensor(needed, dtype=torch.int64), [], []

    def start(self, index):
        self.started += index.tolist()
        taken = torch.zeros_like(index)
        return {
            "number": index,
            "taken": taken,
            "result": torch.stack([index, taken], 1),
            "fooled": torch.zeros_like(index, dtype=torch.bool),
        }

    def step(self, state):
        self.batches.append((len(state["number"]), len(self.started)))
        taken = state["taken"] + 1
        done = taken == self.needed[state["number"]]
        return state | {
            "taken": taken,
            "result": torch.stack([state["number"], taken], 1),
            "fooled": done & (taken % 2 == 0),
        }, done


@given(needed=steps_needed, at_once=places)
def test_every_sample_takes_its_own_steps_whatever_the_batch(needed, at_once):
    attack = Countdown(needed)
    result, fooled = flow(len(needed), attack.start, attack.step, at_once=at_once)
    assert result.tolist() == [[number, count] for number, count in enumerate(needed)]
    assert fooled.tolist() == [count % 2 == 0 for count in needed]
    assert attack.started == list(range(len(needed)))  # each once, in order


@given(needed=steps_needed, at_once=st.integers(1, 14))
def test_the_batch_never_outgrows_its_room_and_is_refilled_while_samples_wait(needed, at_once):
    attack = Countdown(needed)
    flow(len(needed), attack.start, attack.step, at_once=at_once)
    for size, started in attack.batches:
        assert size <= at_once
        if started < len(needed):
            assert 4 * size > 3 * at_once


@given(needed=steps_needed)
def test_all_go_at_once_where_no_room_is_given_and_those_done_leave(needed):
    attack = Countdown(needed)
    flow(len(needed), attack.start, attack.step)
    assert [size for size, _ in attack.batches] == [
        sum(count > taken for count in needed) for taken in range(max(needed))
    ]


def test_other_parts_of_the_state_come_back_when_asked_for():
    attack = Countdown([2, 1, 3])
    _, _, taken = flow(3, attack.start, attack.step, at_once=2, also=("taken",))
    assert taken.tolist() == [2, 1, 3]


def test_no_samples_take_no_step():
    attack = Countdown([])
    result, fooled = flow(0, attack.start, attack.step)
    assert result.shape == (0, 2)
    assert fooled.shape == (0,)
    assert not attack.batches
