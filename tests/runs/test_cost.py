"""The cost model: what is counted beforehand is what a run makes."""

import json

import pytest
import torch
from torch import nn

from imbsam.cli import main
from imbsam.config import Options
from imbsam.runs.cost import expected_cost
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training import setup
from imbsam.training.methods import with_own_options


def options(**values: object) -> Options:
    return with_own_options(Options(), {"epochs": 2, "model": "mlp", **values})


@pytest.mark.parametrize(
    ("method", "forwards", "backwards"), [("sgd", 1, 1), ("sam", 2, 2), ("focal-sam", 2, 3), ("looksam", 1.2, 1.2)]
)
def test_it_is_the_methods_own(method: str, forwards: float, backwards: float) -> None:
    cost = expected_cost("digits", options(method=method))
    assert (cost.forwards, cost.backwards) == pytest.approx((forwards, backwards), abs=0.05)
    assert cost.ratio == pytest.approx((cost.forwards + 2 * cost.backwards) / 3)


def test_imbsam_costs_one_and_the_tails_share_exactly() -> None:
    cost = expected_cost("digits", options(method="imbsam"))
    assert cost.ratio == pytest.approx(1 + cost.tail_share, abs=1e-12)
    assert 0 < cost.tail_share < 0.2
    assert not cost.couples_rows


def test_it_says_whether_a_run_waits_for_its_tail_and_counts_it_as_learned_in_time(pets) -> None:
    chosen = {"model": "resnet20", "width": 0.1, "batch_size": 8, "epochs": 6}
    waiting, at_once = (expected_cost(str(pets), options(**chosen, **more)) for more in ({}, {"sharp_from": 2 / 3}))
    assert waiting.waits
    assert not at_once.waits
    assert not expected_cost("digits", options(method="imbsam")).waits
    assert (waiting.forwards, waiting.backwards) == (at_once.forwards, at_once.backwards)


def test_options_that_name_layers_of_the_model_are_counted() -> None:
    some = expected_cost("digits", options(method="imbsam", perturb=["hidden.*"]))
    assert some == expected_cost("digits", options(method="imbsam"))
    one_layer = expected_cost("digits", options(method="cc-sam", method_options=["classifier=classifier"]))
    assert one_layer.ratio == pytest.approx(2, abs=0.05)


def test_a_reused_direction_costs_one_but_for_the_first_step() -> None:
    cost = expected_cost("digits", options(method="imbsam", ascent="reuse"))
    assert 1 < cost.ratio < 1.01


def test_beside_batch_norm_each_tail_pass_takes_its_context() -> None:
    cost = expected_cost("digits", options(method="imbsam", model="resnet20", width=0.1, context_rows=8))
    assert cost.couples_rows
    per_batch = 2 * (cost.tail_share + 8 / cost.batch_size * cost.with_tail)
    assert cost.ratio == pytest.approx(1 + per_batch, rel=0.02)


def test_without_a_number_the_context_is_that_of_the_models_own_batch_norm() -> None:
    chosen = {"method": "imbsam", "model": "resnet20", "width": 0.1}
    eight, usual = (expected_cost("digits", options(**chosen, **more)) for more in ({"context_rows": 8}, {}))
    assert usual == eight


def test_gathered_tails_stand_in_fewer_batches() -> None:
    shuffled, gathered = (expected_cost("digits", options(sampler=s, tail_rows=16)) for s in ("shuffle", "gathered"))
    assert gathered.with_tail < 0.4 < shuffled.with_tail
    assert gathered.tail_share == pytest.approx(shuffled.tail_share, rel=0.1)


def test_a_mixed_row_is_forwarded_again_if_a_part_of_it_is_tail() -> None:
    plain, mixed = (expected_cost("digits", options(mix=mix, epochs=1)) for mix in ("none", "mixup"))
    assert mixed.ratio > 1 + 1.5 * plain.tail_share
    assert mixed.tail_share == pytest.approx(plain.tail_share, rel=0.1)


@pytest.mark.parametrize("more", [{}, {"mix": "cutmix"}, {"sampler": "repeated"}], ids=["plain", "mixed", "repeated"])
def test_a_run_forwards_the_rows_that_were_counted(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    chosen = options(method="imbsam", epochs=1, **more)
    rows = 0
    forward = nn.Flatten.forward

    def counting(self: nn.Flatten, x: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        rows += len(x) * torch.is_grad_enabled()
        return forward(self, x)

    monkeypatch.setattr(nn.Flatten, "forward", counting)
    fit(RunFolder(tmp_path / "run"), "digits", chosen)
    problem = setup.load_problem("digits", chosen)
    trained = setup.epoch_rows(problem)
    assert (trained > len(problem.dataset.train)) == ("sampler" in more)
    assert rows == round(expected_cost("digits", chosen).forwards * trained)


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cost", "digits", "--methods", "sgd", "imbsam:tail=classes=0"]
    with pytest.raises(SystemExit, match="0"):
        main(words)
    shown = capsys.readouterr().out
    assert "imbsam:tail=classes=0" in shown
    assert "A backward counts as two forwards." in shown
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["sgd"]["ratio"] == 1.0
    assert set(found) == {"sgd", "imbsam:tail=classes=0"}


def test_what_cannot_be_counted_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cost", "nowhere"])
    assert "no such file or folder" in capsys.readouterr().err
