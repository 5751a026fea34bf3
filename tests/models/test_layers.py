from math import sqrt

import pytest
import torch

from imbsam import models
from imbsam.inputs import ImageSpec

RGB = ImageSpec(3, 8, 8, (0.5,) * 3, (0.5,) * 3)


def test_weights_begin_as_he_et_al_draw_them():
    torch.manual_seed(0)
    resnet = models.build("resnet20", RGB, num_classes=100)
    mlp = models.build("mlp", RGB, num_classes=100)
    for layer, deviation in [
        (resnet.blocks[3].conv1, sqrt(2 / (9 * 32))),
        (resnet.classifier, sqrt(1 / 64)),
        (mlp.hidden[0], sqrt(2 / 192)),
        (mlp.classifier, sqrt(1 / 128)),
    ]:
        assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=0.04)
        assert layer.bias is None or not layer.bias.any()
