from pathlib import Path

import pytest
import torch

from editors.errors import ModelLoadError
from editors.models import convert_gguf, load_model, resolve_device, weights_digest


def test_a_saved_folder_loads_frozen_with_equal_weights(tiny, base_folder: Path):
    model, tokenizer = load_model(base_folder, device="cpu")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, tiny.model.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert tokenizer("The capital").input_ids == tiny.tokenizer("The capital").input_ids


def test_the_digest_does_not_depend_on_how_weights_are_split_into_files(tiny, base_folder: Path, tmp_path: Path):
    tiny.model.save_pretrained(tmp_path / "split", max_shard_size="20KB")
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 1
    assert weights_digest(tmp_path / "split") == weights_digest(base_folder)


def test_one_changed_weight_changes_the_digest(tiny, base_folder: Path, tmp_path: Path):
    with torch.no_grad():
        next(tiny.model.parameters())[0, 0] += 1
    tiny.model.save_pretrained(tmp_path / "changed")
    assert weights_digest(tmp_path / "changed") != weights_digest(base_folder)


def test_a_folder_in_which_an_adapter_or_a_tensor_lies_beside_the_model_is_refused(base_folder: Path):
    (weights,) = base_folder.glob("*.safetensors")
    (base_folder / "more.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(ModelLoadError, match=r"is in model\.safetensors and in more\.safetensors"):
        weights_digest(base_folder)
    (base_folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=r"it has an adapter_config\.json too"):
        load_model(base_folder, device="cpu")


def test_an_empty_folder_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ModelLoadError, match=rf"{tmp_path}.*config.json"):
        load_model(tmp_path)


def test_a_folder_without_safetensors_is_refused(base_folder: Path):
    for file in base_folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelLoadError, match=r"\*.safetensors"):
        load_model(base_folder)


def test_a_truncated_weight_file_is_refused(base_folder: Path):
    file = base_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelLoadError, match=str(base_folder)):
        load_model(base_folder, device="cpu")
    with pytest.raises(ModelLoadError, match=str(base_folder)):
        weights_digest(base_folder)


def test_a_missing_gguf_is_refused(tmp_path: Path):
    with pytest.raises(ModelLoadError, match=r"base.gguf.*no such file"):
        convert_gguf(tmp_path / "base.gguf", tmp_path / "base")


@pytest.mark.parametrize("device", ["gpu3", "cuda"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=device):
        resolve_device(device)
    assert resolve_device("auto").type == "cpu"
