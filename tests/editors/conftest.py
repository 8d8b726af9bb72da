"""Random 3-layer models of width 32 with a tokenizer made here: no network, no files, milliseconds."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from editors.artifacts import digest_tensors
from editors.decoding import sample_rows
from editors.facts import Fact
from editors.layouts import sites_of
from editors.material import Material
from editors.memit import Memit
from editors.moments import moments_of_text
from editors.values import ValueSettings

TEXT = [
    "The capital of France is Paris. The capital of Italy is Rome. The mother tongue of Marie Curie is Polish.",
    "Boeing is led by Kelly Ortberg. The chief executive of Boeing is a person. The river in Bern is the Aare.",
]


@dataclass(frozen=True)
class Tiny:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    config: Memit
    material: Material

    @property
    def base(self) -> str:
        return digest_tensors(self.model.state_dict())

    def given(self) -> dict[str, object]:
        """All that `edit` wants beside model, tokenizer and facts."""
        return {"config": self.config, "material": dataclasses.replace(self.material, base=self.base)}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")


def build(architecture: str, vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    if architecture == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                initializer_range=0.2,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_embd=32,
                n_layer=3,
                n_head=4,
                n_positions=256,
                initializer_range=0.2,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def pristine(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> Tiny:
    model = build(request.param, len(tokenizer))
    values = ValueSettings(steps=40, learning_rate=0.5, clamp=20.0, kl_weight=0.0)
    config = Memit(layers=(0, 1), moment_weight=0.01, values=values)
    sites = sites_of(model, config.layers)
    text = sample_rows(model, tokenizer, rows=64, length=12, seed=0)
    material = Material(
        base=digest_tensors(model.state_dict()),
        moments=moments_of_text(model, sites, text),
        contexts=["{}", "It is said. {}"],
        text=text[:16].tolist(),
    )
    return Tiny(model, tokenizer, config, material)


@pytest.fixture
def tiny(pristine: Tiny) -> Tiny:
    """A copy of its own for each test, which may spoil it."""
    return dataclasses.replace(pristine, model=copy.deepcopy(pristine.model))


@pytest.fixture
def facts() -> list[Fact]:
    return [
        Fact(id="f1", subject="France", prompt="The capital of {} is", target="Rome", prior="Paris"),
        Fact(id="f2", subject="Marie Curie", prompt="The mother tongue of {} is", target="Italy"),
        Fact(id="f3", subject="Boeing", prompt="{} is led by", target="Paris"),
    ]


@pytest.fixture
def base_folder(tiny: Tiny, tmp_path: Path) -> Path:
    """The tiny model and its tokenizer as a folder."""
    folder = tmp_path / "base"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder
