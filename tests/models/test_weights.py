import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imbsam import models
from imbsam.errors import ModelError
from imbsam.inputs import TableSpec

TABLE = TableSpec(3, (5,))


def build(num_classes=4, **options):
    return models.build("mlp", TABLE, num_classes=num_classes, hidden=(8,), **options)


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_come_back_bitwise(suffix, tmp_path):
    saved, path = build(), tmp_path / f"weights{suffix}"
    save_file(saved.state_dict(), path) if suffix == ".safetensors" else torch.save(saved.state_dict(), path)
    assert torch.equal(vector(build(weights=path)), vector(saved))
    fresh = build()
    models.load_weights(fresh, path)
    assert torch.equal(vector(fresh), vector(saved))


def test_running_statistics_come_back_too(tmp_path):
    path = tmp_path / "normed.safetensors"
    saved = nn.Sequential(nn.BatchNorm1d(3))
    saved(torch.randn(8, 3))
    save_file(saved.state_dict(), path)
    fresh = nn.Sequential(nn.BatchNorm1d(3))
    models.load_weights(fresh, path)
    assert torch.equal(fresh[0].running_var, saved[0].running_var)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_checkpoints_that_wrap_the_state_dict_are_unwrapped(wrapper, tmp_path):
    saved = build()
    torch.save({"epoch": 3, wrapper: saved.state_dict()}, tmp_path / "checkpoint.pth")
    assert torch.equal(vector(build(weights=tmp_path / "checkpoint.pth")), vector(saved))


def test_the_prefix_of_distributed_training_is_ignored(tmp_path):
    saved = build()
    torch.save({f"module.{name}": tensor for name, tensor in saved.state_dict().items()}, tmp_path / "ddp.pt")
    assert torch.equal(vector(build(weights=tmp_path / "ddp.pt")), vector(saved))


def test_a_classifier_of_other_classes_is_left_out_with_a_warning(tmp_path):
    saved = build(num_classes=9)
    torch.save(saved.state_dict(), tmp_path / "nine.pt")
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match=r"classifier.*left out: it has classifier.weight \(9, 8\)"):
        loaded = build(weights=tmp_path / "nine.pt")
    torch.manual_seed(1)
    assert torch.equal(loaded.classifier.weight, build().classifier.weight)
    assert torch.equal(loaded.hidden[0].weight, saved.hidden[0].weight)


def test_a_file_without_classifier_or_with_a_linear_one_starts_a_cosine_one_anew(tmp_path):
    saved = build()
    torch.save(saved.state_dict(), tmp_path / "linear.pt")
    backbone = {name: value for name, value in saved.state_dict().items() if "classifier" not in name}
    torch.save(backbone, tmp_path / "backbone.pt")
    for name, found in [("linear.pt", r"classifier.weight \(4, 8\), classifier.bias"), ("backbone.pt", "none")]:
        with pytest.warns(UserWarning, match=f"it has {found}"):
            loaded = build(weights=tmp_path / name, cosine_classifier=True)
        assert torch.equal(loaded.hidden[0].weight, saved.hidden[0].weight)


def test_loading_all_weights_refuses_a_classifier_of_other_classes(tmp_path):
    torch.save(build(num_classes=9).state_dict(), tmp_path / "nine.pt")
    with pytest.raises(ModelError, match=r"classifier.weight \(9, 8\) instead of \(4, 8\)"):
        models.load_weights(build(), tmp_path / "nine.pt")


def test_weights_of_another_model_are_refused_by_name_and_leave_the_model_as_it_was(tmp_path):
    state = build().state_dict()
    state["hidden.9.weight"] = state.pop("hidden.0.weight")
    state["inputs.embeddings.0.weight"] = torch.zeros(6, 3)
    torch.save(state, tmp_path / "other.pt")
    model = build()
    before = vector(model).clone()
    with pytest.raises(ModelError) as caught:
        models.load_weights(model, tmp_path / "other.pt")
    for part in (
        "1 missing (hidden.0.weight)",
        "1 unknown (hidden.9.weight)",
        "1 of another shape (inputs.embeddings.0.weight (6, 3) instead of (5, 3))",
    ):
        assert part in str(caught.value)
    assert torch.equal(vector(model), before)


def test_a_missing_file_and_a_wrong_suffix_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"there is no weights file .*absent.pt"):
        build(weights=tmp_path / "absent.pt")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(ModelError, match=r"must be a .safetensors, .pt or .pth file; got .*weights.h5"):
        build(weights=tmp_path / "weights.h5")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(suffix, kept, tmp_path):
    path = tmp_path / f"cut{suffix}"
    state = build().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelError, match=f"cannot read the weights in .*cut{suffix}"):
        build(weights=path)


def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "payload.pt").write_bytes(pickle.dumps({"weight": Payload()}))
    torch.save({"weight": Payload()}, tmp_path / "payload.pth")
    for name in ("payload.pt", "payload.pth"):
        with pytest.raises(ModelError, match="must hold tensors alone"):
            build(weights=tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    for number, content in enumerate([[1, 2], {"epoch": 3}, torch.zeros(2)]):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(ModelError, match="contains no state dict"):
            build(weights=tmp_path / f"{number}.pt")
