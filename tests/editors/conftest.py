"""Random 3-layer models of width 32 with a tokenizer made here: no network, no files, milliseconds."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from editors.alphaedit import AlphaEdit
from editors.artifacts import digest_tensors
from editors.decoding import sample_rows
from editors.facts import Fact
from editors.finetune import Finetune, FinetuneConstrained
from editors.joint import Joint
from editors.layouts import read_weight, sites_of
from editors.material import Material
from editors.memit import Memit
from editors.moments import moments_of_text
from editors.registry import Config
from editors.rome import Rome
from editors.values import ValueSettings

TEXT = [
    "The capital of France is Paris. The capital of Italy is Rome. The mother tongue of Marie Curie is Polish.",
    "Boeing is led by Kelly Ortberg. The chief executive of Boeing is a person. The river in Bern is the Aare.",
]

VALUES = ValueSettings(steps=40, step_length=0.5, clamp=2.0, kl_weight=0.0)
CONTEXTS = ["{}", "It is said. {}"]
CONFIG = Memit(layers=(0, 1), moment_weight=0.01, values=VALUES)
CONFIGS: dict[str, Config] = {
    "finetune": Finetune(layers=(0, 1), learning_rate=0.02),
    "finetune_constrained": FinetuneConstrained(layers=(0, 1), learning_rate=0.02, kl_weight=0.1, bound=0.1),
    "rome": Rome(layer=0, values=VALUES),
    "memit": CONFIG,
    "joint": Joint(layers=(0, 1), fit=0.99, values=VALUES),
    "alphaedit": AlphaEdit(layers=(0, 1), null_share=0.2, l2=0.1, values=VALUES),
}


@dataclass(frozen=True)
class Tiny:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    config: Memit
    material: Material

    @property
    def base(self) -> str:
        return digest_tensors(self.model.state_dict())

    def given(self, name: str = "memit") -> dict[str, Any]:
        """All that a method's `edit` wants beside model, tokenizer and facts."""
        return {"config": CONFIGS[name], "material": dataclasses.replace(self.material, base=self.base)}


_SPECIAL = ["<bos>", "<eos>"]


def byte_level(text: list[str]) -> Tokenizer:
    """As GPT-2's: every byte has a token, and a space belongs to the word behind it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(text * 4, trainer)
    return core


def sentence_piece(text: list[str]) -> Tokenizer:
    """As Llama 2's: spaces are written as a letter, and one is put in front of every text."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[*_SPECIAL, "<unk>"], unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator(text * 4, trainer)
    return core


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(TEXT), bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )


@pytest.fixture(
    scope="session", params=["byte-level", "byte-level with BOS", "SentencePiece", "SentencePiece with BOS"]
)
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Of both kinds, one that adds BOS to a text by itself and one that does not."""
    kind, _, adds_bos = request.param.partition(" with ")
    core = {"byte-level": byte_level, "SentencePiece": sentence_piece}[kind]([*TEXT, "Who lives in Zürich or 東京"])
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>")


_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 1,
}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
_NEOX = _LLAMA | {"rotary_pct": 0.5}
_OPT = {
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "word_embed_proj_dim": 32,
    "pad_token_id": 1,
}
_GEMMA = _LLAMA | {"head_dim": 8, "sliding_window": 4}  # a window that the tests' prompts are longer than

FAMILIES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "gpt2": (GPT2Config, _GPT),
    "gptj": (GPTJConfig, _GPT | {"rotary_dim": 4, "tie_word_embeddings": False}),
    "neox": (GPTNeoXConfig, _NEOX),
    "neox-sequential": (GPTNeoXConfig, _NEOX | {"use_parallel_residual": False}),
    "opt": (OPTConfig, _OPT),
    "opt-350m": (OPTConfig, _OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "llama": (LlamaConfig, _LLAMA),
    "llama-tied": (LlamaConfig, _LLAMA | {"tie_word_embeddings": True, "mlp_bias": True}),
    "mistral": (MistralConfig, _LLAMA | {"sliding_window": 4}),
    "qwen2": (Qwen2Config, _LLAMA | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": (Qwen3Config, _LLAMA | {"head_dim": 8}),
    "gemma2": (Gemma2Config, _GEMMA | {"final_logit_softcapping": 2.0}),
    "gemma3": (
        Gemma3TextConfig,
        _GEMMA | {"layer_types": [f"{kind}_attention" for kind in ("sliding", "full", "sliding")]},
    ),
    "phi3": (Phi3Config, _LLAMA | {"sliding_window": 4}),
}


def build(family: str, vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    kind, settings = FAMILIES[family]
    common = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1}
    spread = {("init_std" if kind is OPTConfig else "initializer_range"): 0.2}
    model = AutoModelForCausalLM.from_config(kind(**common, **spread, **settings))
    return model.eval().requires_grad_(False)


CONTEXTS = ["{}", "It is said. {}"]


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def pristine(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> Tiny:
    model = build(request.param, len(tokenizer))
    text = sample_rows(model, tokenizer, rows=64, length=12, seed=0)
    material = Material(
        base=digest_tensors(model.state_dict()),
        moments=moments_of_text(model, sites_of(model, CONFIG.layers), text),
        contexts=CONTEXTS,
        text=text[:16].tolist(),
    )
    return Tiny(model, tokenizer, CONFIG, material)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def pristine_family(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> Tiny:
    model = build(request.param, len(tokenizer))
    for parameter in model.parameters():
        if parameter.dim() == 1:  # gains of norms and biases: ones and zeros would hide what they do
            parameter.data += 0.2 * torch.randn_like(parameter)
    moments = {site: torch.eye(read_weight(model, site).shape[1]) for site in sites_of(model, CONFIG.layers)}
    material = Material(base=digest_tensors(model.state_dict()), moments=moments, contexts=CONTEXTS)
    return Tiny(model, tokenizer, CONFIG, material)


@pytest.fixture
def family(pristine_family: Tiny) -> Tiny:
    """As `tiny`, of every family, for what every layout has to keep; its second moments are ones."""
    return dataclasses.replace(pristine_family, model=copy.deepcopy(pristine_family.model))


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
