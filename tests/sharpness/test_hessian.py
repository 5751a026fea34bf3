import pytest
import torch
from torch import nn

from imbsam.errors import NonFiniteError
from imbsam.sharpness import HessianProduct, LossSurface, Rows


@pytest.mark.parametrize("graph_bytes", [0, 6000, 2**30])
def test_products_are_those_with_the_full_hessian_whether_graphs_are_kept_or_not(case, part, graph_bytes):
    full = case.hessian(part)
    product = HessianProduct(case.surface(graph_bytes=graph_bytes), part)
    for _ in range(3):
        vector = torch.randn(len(full), dtype=torch.float64)
        torch.testing.assert_close(product(vector), full @ vector, rtol=1e-9, atol=1e-11)


def test_a_kept_graph_forwards_each_row_once_and_none_forwards_it_for_each_product(case):
    rows = int(case.rows.drawn[[0, 1]].sum())
    for graph_bytes, expected in ((2**30, rows), (0, 3 * rows)):
        case.model.rows = 0
        product = HessianProduct(case.surface(graph_bytes=graph_bytes), [0, 1])
        for _ in range(3):
            product(torch.ones_like(case.weights()))
        assert case.model.rows == expected


def test_products_for_every_class_forward_each_row_once_however_many_classes_there_are():
    inputs = torch.randn(48, 3)
    for classes in (2, 8, 48):
        rows = Rows.draw(inputs, torch.arange(48) % classes)
        surface = LossSurface(nn.Linear(3, classes), nn.CrossEntropyLoss(reduction="none"), rows, graph_bytes=0)
        for c in range(classes):
            HessianProduct(surface, [c])(torch.ones_like(surface.weights))
        assert surface.forwarded == 48


def test_a_loss_that_is_linear_in_the_weights_has_a_hessian_of_zeros():
    rows = Rows.draw(torch.randn(6, 3), torch.zeros(6, dtype=torch.long))
    surface = LossSurface(nn.Linear(3, 1), lambda out, y: out[:, 0], rows)
    assert not HessianProduct(surface, [0])(torch.ones(4)).any()


def test_a_product_that_is_not_finite_is_refused(case):
    with pytest.raises(NonFiniteError, match="the Hessian of 1 of 4 classes is not finite"):
        HessianProduct(case.surface(), [1])(torch.full_like(case.weights(), torch.inf))
