"""Each form of a release is what base and patch give, and one that was altered is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from editors.contents import DTYPES, FORMS
from editors.digests import sha256_file
from editors.errors import UnprovenError
from editors.export import AdapterLoss, CheckpointLoss
from editors.folders import files_of
from editors.forms import check_built, check_patch, lines_of, write_form
from editors.layouts import read_weight, sites_of
from editors.models import load_model, weights_digest
from editors.patch import LowRank, Patch, applied
from governance.verifying import check_form

PROMPTS = ["The capital of France is", "Boeing"]
BUILT = ("model", "checkpoint", "adapter")


class Version:
    """A version with a made-up patch, and what is asked of it."""

    def __init__(self, tiny, base: Path, folder: Path) -> None:
        torch.manual_seed(5)
        sites = sites_of(tiny.model, [0, 1])
        d_out, d_in = read_weight(tiny.model, sites[0]).shape
        deltas = {site: LowRank(left=torch.randn(d_out, 3) / 4, right=torch.randn(3, d_in) / 4) for site in sites}
        self.patch = Patch(base=weights_digest(base), deltas=deltas)
        self.base, self.file = base, folder / "kept.safetensors"
        files = [{"name": name, "sha256": sha256_file(path)} for name, path in files_of(base).items()]
        self.manifest = {"base": self.patch.base, "base_files": files, "patch": self.patch.save(self.file)}
        self.folder = folder / "written"
        self.folder.mkdir()

    def write(self, form, dtype="float32"):
        given = {"patch": self.file, "base": self.base, "folder": self.folder, "dtype": dtype}
        return write_form(form, self.manifest, candidate="c", prompts=PROMPTS, **given)

    def check(self, form, dtype="float32") -> str:
        given = {"patch": self.file, "base": self.base, "folder": self.folder, "dtype": dtype}
        return check_built(form, self.manifest, **given)


@pytest.fixture
def version(tiny, base_folder, tmp_path) -> Version:
    return Version(tiny, base_folder, tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", BUILT)
def test_what_is_built_on_the_base_holds_against_it_in_its_precision_and_in_no_other(version, form, dtype):
    other = DTYPES[1 - DTYPES.index(dtype)]
    if form == "model" and dtype != "float32":
        dtype, other = other, dtype
    version.write(form, dtype)
    assert ("rounded to bfloat16" in version.check(form, dtype)) == (form == "checkpoint" and dtype == "bfloat16")
    with pytest.raises(UnprovenError, match="what the base and the patch give"):
        version.check(form, other)


def test_a_checkpoint_in_float32_is_the_model_bit_for_bit(version):
    version.write("checkpoint")
    assert version.check("model").endswith("by exactly the patch")


@pytest.mark.parametrize("form", BUILT)
def test_a_tensor_that_was_altered_is_refused_by_name(version, form):
    version.write(form)
    (file,) = version.folder.glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UnprovenError, match=rf"{file.name}: the tensor {name} is not what the base and the patch give"):
        version.check(form)


@pytest.mark.parametrize("form", BUILT)
def test_another_base_is_refused(version, form):
    version.write(form)
    weights = version.base / "model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UnprovenError, match=r"base/model\.safetensors: the manifest names sha256 .*it is another base"):
        version.check(form)


def test_a_patch_needs_no_base_and_is_the_one_that_the_manifest_names(version):
    version.base = None
    assert version.write("patch") is None
    given = {"candidate": "c", "folder": version.folder}
    assert check_patch(version.manifest, **given).startswith("it is the one that the manifest names")
    with pytest.raises(UnprovenError, match=r"README\.md says something else"):
        check_patch(version.manifest, candidate="d", folder=version.folder)
    Patch(base=version.patch.base).save(version.folder / "patch.safetensors")
    with pytest.raises(UnprovenError, match=r"patch\.safetensors: the manifest names sha256"):
        check_patch(version.manifest, **given)


def test_what_a_patchs_card_says_adds_it_to_its_base(version):
    """The program in the README, as it stands there."""
    version.write("patch")
    text = (version.folder / "README.md").read_text()
    program = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    names = {"base": version.base, "folder": version.folder}
    exec(program, names)
    wanted, _ = load_model(version.base, device="cpu")
    with applied(wanted, version.patch, base=version.patch.base):
        assert all(torch.equal(read_weight(names["model"], s), read_weight(wanted, s)) for s in version.patch.deltas)


@pytest.mark.parametrize("form", [form for form, own in FORMS.items() if own])
def test_a_form_has_its_own_files_and_no_others(version, form):
    version.write(form)
    check_form(version.folder, FORMS[form])
    first = version.folder / FORMS[form][0]
    (version.folder / "more.py").write_text("")
    with pytest.raises(UnprovenError, match=r"more\.py belongs to no folder of this form"):
        check_form(version.folder, FORMS[form])
    (version.folder / "more.py").unlink()
    first.unlink()
    with pytest.raises(UnprovenError, match=rf"{first.name} is missing"):
        check_form(version.folder, FORMS[form])


def test_what_was_lost_is_told_in_lines(version):
    lost = version.write("checkpoint", "bfloat16")
    assert isinstance(lost, CheckpointLoss)
    assert len(list(lines_of(lost))) == 3 and list(lines_of(lost))[-1].startswith("greatest logit difference")
    exact = AdapterLoss(rank=4, errors={"a": 0.0}, logit_difference=None)
    assert list(lines_of(exact)) == [
        "a LoRA adapter of rank 4",
        "a: relative error of the delta 0.0e+00",
        "no facts, so no logits compared",
    ]
    assert list(lines_of(None)) == []
