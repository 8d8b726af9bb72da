import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from editors.digests import sha256_file
from editors.errors import EditorError, NonFiniteError, UnknownSiteError, WrongBaseError
from editors.export import CARD, to_checkpoint, to_lora
from editors.layouts import read_weight, sites_of
from editors.models import load_model, weights_digest
from editors.patch import Dense, LowRank, Patch, applied

PROMPTS = ["The capital of France is", "The mother tongue of Marie Curie is", "Boeing"]
IDS = torch.tensor([[0, 9, 80, 81, 200, 33, 7]])


def low_rank(model, site: str, rank: int) -> LowRank:
    d_out, d_in = read_weight(model, site).shape
    return LowRank(left=torch.randn(d_out, rank) / 4, right=torch.randn(rank, d_in) / 4)


def dense(model, site: str) -> Dense:
    return Dense(delta=torch.randn(read_weight(model, site).shape) / 8)


@pytest.fixture(params=["one rank that vLLM serves", "low-rank and padded", "low-rank beside dense", "empty"])
def patch(request: pytest.FixtureRequest, tiny, base_folder: Path) -> Patch:
    torch.manual_seed(2)
    first, second = sites_of(tiny.model, [0, 1])
    deltas = {
        "one rank that vLLM serves": lambda: {first: low_rank(tiny.model, first, 8)},
        "low-rank and padded": lambda: {first: low_rank(tiny.model, first, 3), second: low_rank(tiny.model, second, 9)},
        "low-rank beside dense": lambda: {first: low_rank(tiny.model, first, 2), second: dense(tiny.model, second)},
        "empty": dict,
    }[request.param]()
    return Patch(base=weights_digest(base_folder), deltas=deltas)


@pytest.fixture
def small_patch(tiny, base_folder: Path) -> Patch:
    torch.manual_seed(3)
    site = sites_of(tiny.model, [1])[0]
    return Patch(base=weights_digest(base_folder), deltas={site: low_rank(tiny.model, site, 2)})


def patched_logits(base_folder: Path, patch: Patch) -> torch.Tensor:
    model, _ = load_model(base_folder, device="cpu")
    with applied(model, patch, base=weights_digest(base_folder)), torch.no_grad():
        return model(input_ids=IDS).logits


def peft_logits(base_folder: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel

    model, _ = load_model(base_folder, device="cpu")
    with torch.no_grad():
        return PeftModel.from_pretrained(model, adapter)(input_ids=IDS).logits


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_peft_loads_the_adapter_and_gives_the_patched_models_logits(patch, base_folder, tmp_path):
    export = to_lora(base_folder, patch, tmp_path / "adapter", base_name="base", prompts=PROMPTS)
    wanted, got = patched_logits(base_folder, patch), peft_logits(base_folder, export.path)
    print(f"rank {export.rank}: greatest difference in PEFT {float((got - wanted).abs().max()):.1e}")
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    assert export.logit_difference is not None
    assert export.logit_difference < 1e-4
    assert all(error < 1e-6 for error in export.errors.values())


def test_a_low_rank_delta_is_exact_and_its_rank_padded_to_one_that_vllm_serves(tiny, base_folder, tmp_path):
    first, second = sites_of(tiny.model, [0, 1])
    deltas = {first: low_rank(tiny.model, first, 3), second: low_rank(tiny.model, second, 9)}
    export = to_lora(
        base_folder, Patch(base=weights_digest(base_folder), deltas=deltas), tmp_path / "adapter", base_name="base"
    )
    assert (export.rank, export.errors) == (16, {first: 0.0, second: 0.0})
    config = json.loads((export.path / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == 16
    tensors = load_file(export.path / "adapter_model.safetensors")
    for site, delta in deltas.items():
        name = f"base_model.model.{site.removesuffix('.weight')}"
        product = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        assert len(tensors[f"{name}.lora_A.weight"]) == 16
        torch.testing.assert_close(product, delta.left @ delta.right)


def test_the_empty_patch_becomes_a_zero_adapter_of_rank_1(base_folder, tmp_path):
    empty = Patch(base=weights_digest(base_folder))
    export = to_lora(base_folder, empty, tmp_path / "adapter", base_name="base", prompts=PROMPTS)
    assert (export.rank, export.errors, export.logit_difference) == (1, {}, 0.0)


def test_without_prompts_no_difference_is_claimed(small_patch, base_folder, tmp_path):
    assert to_lora(base_folder, small_patch, tmp_path / "adapter", base_name="base").logit_difference is None


def test_an_adapter_in_bfloat16_states_what_rounding_its_factors_costs(small_patch, base_folder, tmp_path):
    export = to_lora(base_folder, small_patch, tmp_path / "adapter", base_name="base", dtype=torch.bfloat16)
    assert all(1e-4 < error < 1e-2 for error in export.errors.values())


def test_a_checkpoint_reloads_with_the_patched_models_logits(patch, base_folder, tmp_path):
    export = to_checkpoint(base_folder, patch, tmp_path / "whole", prompts=PROMPTS)
    model = AutoModelForCausalLM.from_pretrained(export.path).eval()
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, patched_logits(base_folder, patch))
    assert export.logit_difference == 0.0
    assert all(site.entries > 0.99 and site.error < 1e-4 for site in export.survival.values())


def test_a_checkpoint_in_bfloat16_is_stored_as_such_and_states_what_was_lost(tiny, base_folder, tmp_path):
    site = sites_of(tiny.model, [1])[0]
    small = LowRank(left=torch.full((32, 1), 1e-4), right=torch.ones(1, read_weight(tiny.model, site).shape[1]))
    patch = Patch(base=weights_digest(base_folder), deltas={site: small})
    export = to_checkpoint(base_folder, patch, tmp_path / "whole", dtype=torch.bfloat16, prompts=PROMPTS)
    reloaded, _ = load_model(export.path, device="cpu", dtype=torch.bfloat16)
    stored = AutoModelForCausalLM.from_pretrained(export.path)
    assert {p.dtype for p in stored.parameters()} == {torch.bfloat16}
    with applied(tiny.model, patch, base=patch.base):
        assert torch.equal(read_weight(reloaded, site), read_weight(tiny.model, site).bfloat16())
    assert 0 < export.survival[site].entries < 0.5
    assert export.logit_difference


EXPORTS = pytest.mark.parametrize(
    "export",
    [lambda *given: to_lora(*given, base_name="base"), to_checkpoint],
    ids=["lora", "checkpoint"],
)


@EXPORTS
def test_the_card_names_base_patch_and_every_file_by_digest(export, small_patch, base_folder, tmp_path):
    folder = export(base_folder, small_patch, tmp_path / "out").path
    card = json.loads((folder / CARD).read_text())
    assert (card["base"], card["patch"]) == (small_patch.base, small_patch.digest)
    assert card["files"] == {path.name: sha256_file(path) for path in folder.iterdir() if path.name != CARD}


@EXPORTS
def test_an_earlier_export_is_replaced_and_anything_else_refused(export, small_patch, base_folder, tmp_path):
    export(base_folder, small_patch, tmp_path / "out")
    export(base_folder, Patch(base=small_patch.base), tmp_path / "out")
    assert json.loads((tmp_path / "out" / CARD).read_text())["patch"] == Patch(base=small_patch.base).digest
    before = sorted(base_folder.iterdir())
    with pytest.raises(FileExistsError, match=str(base_folder)):
        export(base_folder, small_patch, base_folder)
    assert sorted(base_folder.iterdir()) == before


@EXPORTS
def test_a_full_disk_leaves_nothing_behind(export, small_patch, base_folder, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(base_folder, small_patch, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [base_folder]


@EXPORTS
def test_what_does_not_fit_the_base_is_refused_before_anything_is_written(export, tiny, base_folder, tmp_path):
    base, site = weights_digest(base_folder), sites_of(tiny.model, [0])[0]
    good = low_rank(tiny.model, site, 1)
    for patch, error, named in (
        (Patch(base="another", deltas={site: good}), WrongBaseError, "another"),
        (Patch(base=base, deltas={"model.layers.9.no.weight": good}), UnknownSiteError, "layers.9"),
        (Patch(base=base, deltas={site: Dense(delta=torch.ones(1, 1))}), EditorError, site),
    ):
        with pytest.raises(error, match=named):
            export(base_folder, patch, tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == [base_folder]


@EXPORTS
def test_nan_in_the_base_is_refused_before_anything_is_written(export, tiny, tmp_path):
    site = sites_of(tiny.model, [0])[0]
    patch_of = low_rank(tiny.model, site, 1)
    with torch.no_grad():
        tiny.model.get_parameter(site)[0, 0] = float("nan")
    tiny.model.save_pretrained(tmp_path / "spoiled")
    tiny.tokenizer.save_pretrained(tmp_path / "spoiled")
    patch = Patch(base=weights_digest(tmp_path / "spoiled"), deltas={site: patch_of})
    with pytest.raises(NonFiniteError, match=site):
        export(tmp_path / "spoiled", patch, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled"]
