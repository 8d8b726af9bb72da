import pytest
import torch

from editors.keeping import drop, find, keep

ONE, TWO = {"a": torch.arange(3.0)}, {"a": torch.ones(2), "b": torch.zeros(1)}


def test_what_is_kept_under_a_key_is_found_with_its_metadata(tmp_path):
    keep(tmp_path / "deep", "key", ONE, {"rows": 3})
    tensors, metadata = find(tmp_path / "deep", "key")
    assert torch.equal(tensors["a"], ONE["a"])
    assert metadata == {"rows": 3}
    assert find(tmp_path / "deep", "other") is None
    assert find(tmp_path / "nowhere", "key") is None


def test_the_later_takes_the_place_of_the_earlier_and_of_no_other_keys(tmp_path):
    keep(tmp_path, "key", ONE, {})
    keep(tmp_path, "key-begun", ONE, {})
    keep(tmp_path, "key", TWO, {})
    assert find(tmp_path, "key")[0].keys() == TWO.keys()
    assert find(tmp_path, "key-begun")[0].keys() == ONE.keys()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_dropped_is_gone_and_other_keys_stay(tmp_path):
    keep(tmp_path, "key", ONE, {})
    keep(tmp_path, "key-begun", ONE, {})
    drop(tmp_path, "key")
    assert find(tmp_path, "key") is None
    assert find(tmp_path, "key-begun") is not None


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"x", lambda data: b""])
def test_a_damaged_file_is_nothing_and_warned_of(tmp_path, caplog, damage):
    keep(tmp_path, "key", ONE, {})
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert find(tmp_path, "key") is None
    assert str(file) in caplog.text


def test_of_two_that_a_kill_left_the_whole_one_is_found(tmp_path):
    keep(tmp_path, "key", ONE, {})
    (tmp_path / f"key.{'0' * 64}.safetensors").write_bytes(b"half")
    assert torch.equal(find(tmp_path, "key")[0]["a"], ONE["a"])
