import hashlib
from pathlib import Path

import pytest
import torch

from editors.artifacts import digest_tensors
from editors.digests import canonical_json, digest_of, sha256_bytes, sha256_file


def test_the_order_of_keys_does_not_matter():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert canonical_json({"b": "é", "a": 1}) == '{"a":1,"b":"é"}'.encode()


def test_nan_is_no_json():
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == sha256_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_name_dtype_shape_and_bytes_of_a_tensor_count():
    one = torch.arange(4.0)
    digests = {
        digest_tensors({"a": one}),
        digest_tensors({"b": one}),
        digest_tensors({"a": one.reshape(2, 2)}),
        digest_tensors({"a": one.double()}),
        digest_tensors({"a": one + 1}),
    }
    assert len(digests) == 5


def test_neither_order_nor_memory_layout_of_tensors_counts():
    one, two = torch.arange(6.0).reshape(2, 3), torch.ones(0)
    assert digest_tensors({"a": one, "b": two}) == digest_tensors({"b": two, "a": one.T.contiguous().T})
