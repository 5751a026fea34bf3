"""The frameworks' mixins on a device of its own: trained as on the CPU."""

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import Accelerator as FabricsAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from pytorch_lightning.accelerators import Accelerator as TrainersAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy as LightningsDevice
from torch import nn
from torch.utils.data import DataLoader

from cases import BATCH_NORM, MLP, TAIL
from device.simulated import fetched
from imbsam.integrations.accelerate import AccelerateBackward
from imbsam.integrations.batches import take_rows
from imbsam.integrations.fabric import FabricBackward
from imbsam.integrations.lightning import SharpnessAwareMixin as OfLightning
from imbsam.integrations.micro_batches import MicroBatches, make_passes
from imbsam.integrations.skorch import SharpnessAwareMixin as OfSkorch
from imbsam.optim import ImbSAM
from integrations import plain

CASES = (MLP, BATCH_NORM)
DATA = {case: plain.batches(plain.dataset(case, torch.float32)) for case in CASES}


def followed(case, device, train):
    """Train a fresh copy of the case's model on a device, and give its state on the CPU."""
    model = case.model(torch.float32).to(device)
    optimizer = plain.optimizer_for("imbsam", model)
    batches = [(x.to(device), y.to(device)) for x, y in DATA[case]]
    train(model, optimizer, batches)
    return fetched(dict(model.state_dict()))


def assert_follows(case, simulated, train):
    expected, found = followed(case, "cpu", train), followed(case, simulated, train)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_micro_batches_that_wait(simulated, case):
    def train(model, optimizer, batches):
        waiting = MicroBatches()
        for batch in batches:
            for part in range(2):
                half = tuple(each[part::2] for each in batch)
                waiting.add(half, half[1])
            make_passes(optimizer, waiting, lambda rows: plain.losses_of(model, rows))
            optimizer.step()

    assert_follows(case, simulated, train)


def test_rows_of_a_batch_stay_where_they_are(simulated):
    x = torch.arange(6.0).to(simulated)
    batch = {"x": x, "names": np.array(list("abcdef")), "more": (x, torch.ones(6))}
    taken = take_rows(batch, torch.tensor([1, 4]))
    assert fetched(taken["x"]).tolist() == [1.0, 4.0]
    assert taken["x"].device == taken["more"][0].device == simulated
    assert taken["names"].tolist() == ["b", "e"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate(simulated, accumulate):
    from accelerate import Accelerator

    def train(model, optimizer, batches):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
        backward = AccelerateBackward(accelerator, model, optimizer)
        for batch in batches:
            with accelerator.accumulate(model):
                backward(batch, lambda rows: plain.losses_of(model, rows))
                optimizer.step()
                optimizer.zero_grad()

    assert_follows(MLP, simulated, train)


def test_skorch(simulated):
    from skorch import NeuralNetClassifier

    class Net(OfSkorch, NeuralNetClassifier):
        pass

    def trained(device):
        x, y = MLP.batch(plain.TARGETS, dtype=torch.float32)
        net = Net(
            lambda: MLP.model(torch.float32),
            criterion=nn.CrossEntropyLoss,
            optimizer=lambda params, lr: ImbSAM(torch.optim.SGD(params, lr=lr), TAIL),
            lr=0.1,
            max_epochs=3,
            batch_size=6,
            train_split=None,
            verbose=0,
            device=str(device),
        )
        net.fit(x, y)
        return fetched(dict(net.module_.state_dict()))

    torch.testing.assert_close(trained(simulated), trained("cpu"))


class _Simulated:
    """The simulated device as Lightning sees accelerators."""

    def setup_device(self, device: torch.device) -> None:
        pass

    def get_device_stats(self, device: object) -> dict[str, object]:
        return {}

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: object) -> int:
        return 1

    @staticmethod
    def get_parallel_devices(devices: object) -> list[torch.device]:
        return [torch.device("simulated", 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "simulated"


class OfFabric(_Simulated, FabricsAccelerator):
    pass


class OfTrainer(_Simulated, TrainersAccelerator):
    pass


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fabric(simulated, case):
    def train(model, optimizer, batches):
        there = next(model.parameters()).device == simulated
        strategy = SingleDeviceStrategy(simulated, accelerator=OfFabric()) if there else "auto"
        fabric = Fabric(strategy=strategy, devices=1, **{} if there else {"accelerator": "cpu"})
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
        backward = FabricBackward(fabric, wrapped, wrapped_optimizer)
        for count, batch in enumerate(batches):
            if backward(batch, lambda rows: plain.losses_of(wrapped, rows), more=count % 2 == 0) is not None:
                fabric.clip_gradients(wrapped, wrapped_optimizer, max_norm=1.0)
                wrapped_optimizer.step()

    assert_follows(case, simulated, train)


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated")
@pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval")
def test_lightning(simulated):
    seen = set()

    class Module(OfLightning, lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = MLP.model(torch.float32)

        def row_losses(self, batch):
            seen.add(batch[0].device)
            return plain.losses_of(self.net, batch)

        def configure_optimizers(self):
            return plain.optimizer_for("imbsam", self)

    def trained(**where):
        module = Module()
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=2, logger=False, accumulate_grad_batches=2, **quiet, **where)
        trainer.fit(module, DataLoader(plain.dataset(MLP, torch.float32), plain.BATCH_SIZE))
        return fetched(dict(module.state_dict()))

    there = LightningsDevice(simulated, accelerator=OfTrainer())
    torch.testing.assert_close(trained(strategy=there, devices=1), trained(accelerator="cpu"))
    assert seen == {simulated, torch.device("cpu")}
