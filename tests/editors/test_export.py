import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from editors.errors import EditorError, NonFiniteError, UnknownSiteError, UnprovenError, WrongBaseError
from editors.export import check_adapter, to_checkpoint, to_lora
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


@pytest.fixture
def adapter(tmp_path) -> Path:
    """An empty folder."""
    (tmp_path / "adapter").mkdir()
    return tmp_path / "adapter"


@pytest.fixture
def whole(tiny, tmp_path) -> Path:
    """A folder with the base's tokenizer alone."""
    tiny.tokenizer.save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


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
def test_peft_loads_the_adapter_and_gives_the_patched_models_logits(patch, base_folder, adapter):
    lost = to_lora(base_folder, patch, adapter, base_name="base", prompts=PROMPTS)
    wanted, got = patched_logits(base_folder, patch), peft_logits(base_folder, adapter)
    print(f"rank {lost.rank}: greatest difference in PEFT {float((got - wanted).abs().max()):.1e}")
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    assert lost.logit_difference is not None
    assert lost.logit_difference < 1e-4
    assert all(error < 1e-6 for error in lost.errors.values())


def test_a_low_rank_delta_is_exact_and_its_rank_padded_to_one_that_vllm_serves(tiny, base_folder, adapter):
    first, second = sites_of(tiny.model, [0, 1])
    deltas = {first: low_rank(tiny.model, first, 3), second: low_rank(tiny.model, second, 9)}
    patch = Patch(base=weights_digest(base_folder), deltas=deltas)
    lost = to_lora(base_folder, patch, adapter, base_name="base")
    assert (lost.rank, lost.errors) == (16, {first: 0.0, second: 0.0})
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == 16
    tensors = load_file(adapter / "adapter_model.safetensors")
    for site, delta in deltas.items():
        name = f"base_model.model.{site.removesuffix('.weight')}"
        product = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        assert len(tensors[f"{name}.lora_A.weight"]) == 16
        torch.testing.assert_close(product, delta.left @ delta.right)


def test_the_empty_patch_becomes_a_zero_adapter_of_rank_1(base_folder, adapter):
    empty = Patch(base=weights_digest(base_folder))
    lost = to_lora(base_folder, empty, adapter, base_name="base", prompts=PROMPTS)
    assert (lost.rank, lost.errors, lost.logit_difference) == (1, {}, 0.0)


def test_without_prompts_no_difference_is_claimed(small_patch, base_folder, adapter):
    assert to_lora(base_folder, small_patch, adapter, base_name="base").logit_difference is None


def test_an_adapter_in_bfloat16_states_what_rounding_its_factors_costs(small_patch, base_folder, adapter):
    lost = to_lora(base_folder, small_patch, adapter, base_name="base", dtype=torch.bfloat16)
    assert all(1e-4 < error < 1e-2 for error in lost.errors.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_is_what_its_base_and_patch_give(patch, base_folder, adapter, dtype):
    to_lora(base_folder, patch, adapter, base_name="base", dtype=dtype)
    told = check_adapter(base_folder, patch, adapter, dtype=dtype)
    cut = sum(isinstance(delta, Dense) for delta in patch.deltas.values())
    assert told.startswith(f"{max(len(patch.deltas), 1) - cut} sites have the patch's own factors")
    assert ("were cut" in told) == bool(cut) and "not verified: that its base's name 'base'" in told


def of_half_the_size(tensors):
    next(value for name, value in tensors.items() if "lora_B" in name).mul_(0.5)


def of_another_site(tensors):
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name.replace("mlp.", "attention.")] = tensors.pop(name)


def without_a_tensor(tensors):
    del tensors[next(iter(tensors))]


def of_nothing_a_number(tensors):
    next(iter(tensors.values()))[0, 0] = float("nan")


def of_another_precision(tensors):
    for name in tensors:
        tensors[name] = tensors[name].double()


@pytest.mark.parametrize("kind", ["low-rank", "dense"])
@pytest.mark.parametrize(
    "alter", [of_half_the_size, of_another_site, without_a_tensor, of_nothing_a_number, of_another_precision]
)
def test_an_adapter_that_was_altered_is_refused_by_the_tensors_name(tiny, base_folder, adapter, alter, kind):
    torch.manual_seed(4)
    site = sites_of(tiny.model, [0])[0]
    delta = low_rank(tiny.model, site, 8) if kind == "low-rank" else dense(tiny.model, site)
    patch = Patch(base=weights_digest(base_folder), deltas={site: delta})
    to_lora(base_folder, patch, adapter, base_name="base")
    tensors = load_file(adapter / "adapter_model.safetensors")
    alter(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnprovenError, match=r"adapter_model\.safetensors: .*base_model\.model\.\w+\.\w+\.0"):
        check_adapter(base_folder, patch, adapter, dtype=torch.float32)


@pytest.mark.parametrize("kept", [0, 7, 300])
def test_an_adapter_that_is_cut_off_is_refused_by_the_files_name(small_patch, base_folder, adapter, kept):
    to_lora(base_folder, small_patch, adapter, base_name="base")
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UnprovenError, match=r"adapter_model\.safetensors is no safetensors file"):
        check_adapter(base_folder, small_patch, adapter, dtype=torch.float32)


@pytest.mark.parametrize(("setting", "value"), [("lora_alpha", 32), ("target_modules", []), ("modules_to_save", ["x"])])
def test_a_setting_of_an_adapter_that_was_altered_is_refused(small_patch, base_folder, adapter, setting, value):
    to_lora(base_folder, small_patch, adapter, base_name="base")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
    with pytest.raises(UnprovenError, match=r"adapter_config\.json says something else"):
        check_adapter(base_folder, small_patch, adapter, dtype=torch.float32)


def test_a_number_of_another_kind_and_a_setting_said_twice_are_other_settings(small_patch, base_folder, adapter):
    to_lora(base_folder, small_patch, adapter, base_name="base")
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    for text, match in (
        (json.dumps(config | {"r": float(config["r"])}), "something else"),
        (f'{{"r": 7, {json.dumps(config)[1:]}', "it says something twice"),
    ):
        file.write_text(text)
        with pytest.raises(UnprovenError, match=rf"adapter_config\.json.*{match}"):
            check_adapter(base_folder, small_patch, adapter, dtype=torch.float32)


def test_a_checkpoint_reloads_with_the_patched_models_logits(patch, base_folder, whole):
    lost = to_checkpoint(base_folder, patch, whole, prompts=PROMPTS)
    model = AutoModelForCausalLM.from_pretrained(whole).eval()
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, patched_logits(base_folder, patch))
    assert lost.logit_difference == 0.0
    assert all(site.entries > 0.99 and site.error < 1e-4 for site in lost.survival.values())


def test_a_checkpoint_in_bfloat16_is_stored_as_such_and_states_what_was_lost(tiny, base_folder, whole):
    site = sites_of(tiny.model, [1])[0]
    small = LowRank(left=torch.full((32, 1), 1e-4), right=torch.ones(1, read_weight(tiny.model, site).shape[1]))
    patch = Patch(base=weights_digest(base_folder), deltas={site: small})
    lost = to_checkpoint(base_folder, patch, whole, dtype=torch.bfloat16, prompts=PROMPTS)
    reloaded, _ = load_model(whole, device="cpu", dtype=torch.bfloat16)
    stored = AutoModelForCausalLM.from_pretrained(whole)
    assert {p.dtype for p in stored.parameters()} == {torch.bfloat16}
    with applied(tiny.model, patch, base=patch.base):
        assert torch.equal(read_weight(reloaded, site), read_weight(tiny.model, site).bfloat16())
    assert 0 < lost.survival[site].entries < 0.5
    assert lost.logit_difference


EXPORTS = pytest.mark.parametrize(
    "export",
    [lambda *given: to_lora(*given, base_name="base"), to_checkpoint],
    ids=["lora", "checkpoint"],
)


@EXPORTS
def test_what_does_not_fit_the_base_is_refused_before_anything_is_written(export, tiny, base_folder, adapter):
    base, site = weights_digest(base_folder), sites_of(tiny.model, [0])[0]
    good = low_rank(tiny.model, site, 1)
    for patch, error, named in (
        (Patch(base="another", deltas={site: good}), WrongBaseError, "another"),
        (Patch(base=base, deltas={"model.layers.9.no.weight": good}), UnknownSiteError, "layers.9"),
        (Patch(base=base, deltas={site: Dense(delta=torch.ones(1, 1))}), EditorError, site),
    ):
        with pytest.raises(error, match=named):
            export(base_folder, patch, adapter)
    assert not any(adapter.iterdir())


@EXPORTS
def test_nan_in_the_base_is_refused_before_anything_is_written(export, tiny, adapter, tmp_path):
    site = sites_of(tiny.model, [0])[0]
    patch_of = low_rank(tiny.model, site, 1)
    with torch.no_grad():
        tiny.model.get_parameter(site)[0, 0] = float("nan")
    tiny.model.save_pretrained(tmp_path / "spoiled")
    tiny.tokenizer.save_pretrained(tmp_path / "spoiled")
    patch = Patch(base=weights_digest(tmp_path / "spoiled"), deltas={site: patch_of})
    with pytest.raises(NonFiniteError, match=site):
        export(tmp_path / "spoiled", patch, adapter)
    assert not any(adapter.iterdir())
