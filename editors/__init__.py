"""How a fact gets into a language model, and how to tell whether it did.

Example:
    model, tokenizer = load_model(folder)
    config = Memit()
    moments = second_moments(model, tokenizer, sites_of(model, config.layers))
    contexts = sample_contexts(model, tokenizer, count=config.contexts)
    base = weights_digest(folder)
    patch = edit(model, tokenizer, facts, config=config, moments=moments, contexts=contexts, base_digest=base)
    with applied(model, patch, base=base):
        scores = score(model, tokenizer, [probe_of(fact) for fact in facts])
"""

from editors.answers import natural_stop, starts_with
from editors.contexts import sample_contexts
from editors.decoding import Progress, sample_rows
from editors.digests import canonical_json, digest_of, digest_tensors, sha256_bytes, sha256_file
from editors.errors import (
    DamagedArtifactError,
    EditorError,
    InvalidConfigError,
    InvalidFactError,
    ModelLoadError,
    NonFiniteError,
    SingularSystemError,
    SubjectNotFoundError,
    UnknownLayoutError,
    UnknownSiteError,
    WrongBaseError,
)
from editors.facts import Fact
from editors.layouts import layout_of, sites_of
from editors.memit import Memit
from editors.models import convert_gguf, load_model, resolve_device, weights_digest
from editors.moments import load_moments, moments_of_text, save_moments, second_moments
from editors.patch import Dense, LowRank, Patch, applied, apply_
from editors.registry import EDITORS, Editor, edit
from editors.scoring import (
    ANSWER_TOKENS,
    Perplexity,
    Probe,
    ProbeScore,
    generate,
    next_token_logprobs,
    perplexity,
    probe_of,
    score,
)
from editors.tokens import text_row
from editors.values import ValueSettings

__all__ = [
    "ANSWER_TOKENS",
    "EDITORS",
    "DamagedArtifactError",
    "Dense",
    "Editor",
    "EditorError",
    "Fact",
    "InvalidConfigError",
    "InvalidFactError",
    "LowRank",
    "Memit",
    "ModelLoadError",
    "NonFiniteError",
    "Patch",
    "Perplexity",
    "Probe",
    "ProbeScore",
    "Progress",
    "SingularSystemError",
    "SubjectNotFoundError",
    "UnknownLayoutError",
    "UnknownSiteError",
    "ValueSettings",
    "WrongBaseError",
    "applied",
    "apply_",
    "canonical_json",
    "convert_gguf",
    "digest_of",
    "digest_tensors",
    "edit",
    "generate",
    "layout_of",
    "load_model",
    "load_moments",
    "moments_of_text",
    "natural_stop",
    "next_token_logprobs",
    "perplexity",
    "probe_of",
    "resolve_device",
    "sample_contexts",
    "sample_rows",
    "save_moments",
    "score",
    "second_moments",
    "sha256_bytes",
    "sha256_file",
    "sites_of",
    "starts_with",
    "text_row",
    "weights_digest",
]
