from pathlib import Path

import pytest
import torch

from editors.artifacts import digest_tensors, dump_tensors
from editors.atomic import write_atomically
from editors.digests import sha256_file
from editors.errors import DamagedArtifactError, EditorError, NonFiniteError, UnknownSiteError, WrongBaseError
from editors.layouts import read_weight, sites_of
from editors.patch import Dense, LowRank, Patch, applied, apply_, smaller


@pytest.fixture
def patch(tiny) -> Patch:
    torch.manual_seed(1)
    site = sites_of(tiny.model, [1])[0]
    d_out, d_in = read_weight(tiny.model, site).shape
    return Patch(base=tiny.base, deltas={site: LowRank(left=torch.randn(d_out, 2), right=torch.randn(2, d_in))})


def test_undo_is_bit_exact(tiny, patch):
    before = tiny.base
    with applied(tiny.model, patch, base=before):
        assert digest_tensors(tiny.model.state_dict()) != before
    assert digest_tensors(tiny.model.state_dict()) == before


def test_undo_happens_on_ctrl_c_too(tiny, patch):
    before = tiny.base
    with pytest.raises(KeyboardInterrupt), applied(tiny.model, patch, base=before):
        raise KeyboardInterrupt
    assert digest_tensors(tiny.model.state_dict()) == before


def test_applied_in_place_adds_the_delta_and_nothing_else(tiny, patch):
    ((site, delta),) = patch.deltas.items()
    before = read_weight(tiny.model, site)
    others = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items() if name != site}
    apply_(tiny.model, patch, base=tiny.base)
    torch.testing.assert_close(read_weight(tiny.model, site), before + delta.left @ delta.right)
    assert all(torch.equal(tiny.model.state_dict()[name], tensor) for name, tensor in others.items())


def test_a_saved_patch_comes_back_with_its_digest(patch, tmp_path: Path):
    path = tmp_path / "deep" / "patch.safetensors"
    digest = patch.save(path)
    assert digest == patch.digest == sha256_file(path)
    assert Patch.load(path, expected=digest).digest == digest
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_one_flipped_byte_is_refused_naming_both_digests(patch, tmp_path: Path):
    path = tmp_path / "patch.safetensors"
    digest = patch.save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedArtifactError, match=rf"patch.safetensors.*{digest}.*{sha256_file(path)}"):
        Patch.load(path, expected=digest)


def test_a_file_that_is_no_patch_is_refused_even_with_its_digest(tmp_path: Path):
    path = tmp_path / "patch.safetensors"
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(DamagedArtifactError, match=r"patch.safetensors"):
        Patch.load(path, expected=sha256_file(path))


def test_a_full_disk_leaves_no_file_behind(patch, tmp_path: Path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        patch.save(tmp_path / "patch.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_patch_for_another_base_is_refused_naming_both(tiny, patch):
    with pytest.raises(WrongBaseError, match=rf"{patch.base}.*another"):
        apply_(tiny.model, patch, base="another")


def test_the_empty_patch_is_legal_and_changes_nothing(tiny, tmp_path: Path):
    before, empty = tiny.base, Patch(base=tiny.base)
    digest = empty.save(tmp_path / "empty")
    apply_(tiny.model, Patch.load(tmp_path / "empty", expected=digest), base=before)
    assert tiny.base == before


def test_the_smaller_form_is_stored():
    thin, wide = smaller(torch.ones(8, 1), torch.ones(1, 8)), smaller(torch.ones(8, 4), torch.ones(4, 8))
    assert isinstance(thin, LowRank)
    assert isinstance(wide, Dense)


def test_nan_in_a_patch_is_refused():
    with pytest.raises(NonFiniteError, match="site"):
        Patch(base="b", deltas={"site": Dense(delta=torch.full((2, 2), float("nan")))})


def test_an_unknown_site_or_a_wrong_shape_is_refused_before_anything_changes(tiny):
    before, sites = tiny.base, sites_of(tiny.model, [0, 1])
    good = Dense(delta=torch.ones_like(read_weight(tiny.model, sites[0])))
    for bad, error in (
        ({"no.such.weight": good}, UnknownSiteError),
        ({sites[1]: Dense(delta=torch.ones(1))}, EditorError),
    ):
        with pytest.raises(error):
            apply_(tiny.model, Patch(base=before, deltas={sites[0]: good} | bad), base=before)
    assert tiny.base == before


def test_a_truncated_file_is_refused(patch, tmp_path: Path):
    path = tmp_path / "patch.safetensors"
    digest = patch.save(path)
    for length in (0, 7, 100, path.stat().st_size - 1):
        path.write_bytes(patch.to_bytes()[:length])
        with pytest.raises(DamagedArtifactError, match=rf"patch.safetensors.*{digest}"):
            Patch.load(path, expected=digest)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_before_anything_changes(tiny, number: float):
    deltas = {
        site: Dense(delta=torch.ones_like(read_weight(tiny.model, site))) for site in sites_of(tiny.model, [0, 1])
    }
    spoiled = sites_of(tiny.model, [1])[0]
    with torch.no_grad():
        tiny.model.get_parameter(spoiled)[0, 0] = number
    before = tiny.base
    with pytest.raises(NonFiniteError, match=spoiled):
        apply_(tiny.model, Patch(base=before, deltas=deltas), base=before)
    assert tiny.base == before


def test_a_sum_that_overflows_is_refused_before_anything_changes(tiny):
    site = sites_of(tiny.model, [0])[0]
    huge = Dense(delta=torch.full_like(read_weight(tiny.model, site), torch.finfo(torch.float32).max))
    with torch.no_grad():
        tiny.model.get_parameter(site).fill_(torch.finfo(torch.float32).max)
    before = tiny.base
    with pytest.raises(NonFiniteError, match=f"the patched {site}"):
        apply_(tiny.model, Patch(base=before, deltas={site: huge}), base=before)
    assert tiny.base == before


@pytest.mark.parametrize("lost", ["left", "right", "base"])
def test_a_patch_that_lacks_a_part_is_refused_even_with_its_digest(patch, lost: str, tmp_path: Path):
    ((site, delta),) = patch.deltas.items()
    tensors = {f"{site}:left": delta.left, f"{site}:right": delta.right}
    metadata = {"base": patch.base, "format": 1, "kind": "patch"}
    for whole in (tensors, metadata):
        for name in [name for name in whole if name.endswith(lost)]:
            del whole[name]
    path = tmp_path / "patch.safetensors"
    digest = write_atomically(path, dump_tensors(tensors, metadata))
    with pytest.raises(DamagedArtifactError, match=rf"patch.safetensors.*{lost}"):
        Patch.load(path, expected=digest)


def test_a_patch_for_another_base_changes_nothing(tiny, patch):
    before = tiny.base
    with pytest.raises(WrongBaseError), applied(tiny.model, patch, base="another"):
        pytest.fail("the context must not open")
    assert tiny.base == before


@pytest.mark.parametrize("rank", [1, 5, 40])
def test_float32_factors_reproduce_the_float64_delta_within_1e_7_of_its_norm(rank: int):
    torch.manual_seed(0)
    left, right = torch.randn(96, rank, dtype=torch.float64), torch.randn(rank, 128, dtype=torch.float64)
    stored = smaller(left, right)
    assert isinstance(stored, LowRank)
    assert stored.left.dtype == torch.float32
    error = float((stored.dense() - left @ right).norm() / (left @ right).norm())
    print(f"rank {rank}: relative error {error:.1e}")
    assert error < 1e-7
