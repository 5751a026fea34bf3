"""The average of the weights against a loop in float64."""

import copy

import pytest
import torch
from torch import nn

from imbsam.config import TrainingOptions
from imbsam.errors import OptionError
from imbsam.training.averaging import average_of, averaged_weights, check_average, warm_decay


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.double()


def steps_of(model, number):
    """Weights and buffers after each of some steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(number):
        x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_it_is_the_moving_average_of_weights_and_running_statistics(decay):
    model = Net()
    average = average_of(model, TrainingOptions(average="ema", average_decay=decay))
    expected = None
    for t, state in enumerate(steps_of(model, 30)):
        average.update_parameters(model)
        now = min(decay, (1 + t) / (10 + t))
        expected = state if expected is None else {n: now * expected[n] + (1 - now) * v for n, v in state.items()}
    found = averaged_weights(average.state_dict())
    assert found.keys() == state.keys()
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    assert int(found["1.num_batches_tracked"]) == 30
    differs = not torch.equal(found["1.running_mean"], state["1.running_mean"])
    assert differs == (decay > 0)


def test_the_model_itself_is_left_alone():
    model, alone = Net(), None
    alone = copy.deepcopy(model)
    average = average_of(model, TrainingOptions(average="ema"))
    for mine, other in zip(steps_of(model, 5), steps_of(alone, 5), strict=True):
        average.update_parameters(model)
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_without_one_nothing_is_averaged():
    assert average_of(Net(), TrainingOptions()) is None


def test_the_decay_warms_up():
    assert [warm_decay(0.5, t) for t in (0, 1, 8, 9)] == [0.1, 2 / 11, 0.5, 0.5]


def test_a_decay_without_an_average_is_refused():
    with pytest.raises(OptionError, match="add --average ema"):
        check_average(TrainingOptions(average_decay=0.9))
    check_average(TrainingOptions(average="ema", average_decay=0.9))


def test_a_buffer_that_has_no_average_is_named():
    model = Net()
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    with pytest.raises(OptionError, match="buffer mask holds values that are not finite"):
        average_of(model, TrainingOptions(average="ema"))
