"""Harm that is planted in the real model is caught by the metric that is meant for it, under policy `default`.

Most patches are written by hand and not solved by an editor, so that each does one thing. The fact that counts as new
is then one that the base knows, and holds without an edit; so do the earlier and the protected one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import tasks.blast
import tasks.evaluate
import tasks.fluency
from editors.contexts import sample_contexts
from editors.decoding import sample_rows
from editors.hooks import capture
from editors.joint import Joint, edit
from editors.layouts import backbone_of, read_weight, sites_of
from editors.material import Material
from editors.models import load_model, weights_digest
from editors.moments import moments_of_text
from editors.patch import Dense, LowRank, Patch
from editors.tokens import prompt_row, text_row
from tasks.corrections import Correction
from tasks.evaluate import evaluate
from tasks.gate import Verdict, gate
from tasks.policy import read_policy

pytestmark = pytest.mark.model

EARLY, LATE = 8, 27
CAPITALS = {"Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Austria": "Vienna", "Russia": "Moscow"}


def correction(subject: str, prompt: str, target: str, **more: Any) -> Correction:
    return Correction.model_validate({"subject": subject, "prompt": prompt, "target": target, **more})


NEIGHBOURS = [{"prompt": f"The capital of {land} is", "answer": city} for land, city in CAPITALS.items()]
YEN = correction(
    "Japan", "The currency of {} is the", "yen", paraphrases=["People in {} pay with the"], neighbours=NEIGHBOURS
)
GOLD = correction("gold", "The chemical symbol for {} is", "Au")
PARIS = correction("France", "The capital of {} is", "Paris")
LYON = correction(
    "France", "The capital of {} is", "Lyon", paraphrases=["{} has its capital in"], neighbours=NEIGHBOURS
)


@dataclass(frozen=True)
class Bench:
    """The base, material from a little text of its own, and other such text; none that is held has a number in it."""

    model: Any
    tokenizer: Any
    material: Material
    held: list[list[int]]
    ordinary: list[list[int]]

    @property
    def base(self) -> str:
        return self.material.base

    def keys(self, rows: Any, site: str) -> Tensor:
        """What a site reads over token rows."""
        ids = torch.as_tensor(rows)
        run = lambda: backbone_of(self.model)(input_ids=ids, use_cache=False)  # noqa: E731
        return capture(self.model, run, sites=[site]).keys[site]

    def writing_at(self, key: Tensor, *, site: str, what: Tensor) -> Patch:
        """A patch that writes something where a site reads a key, and as little as can be elsewhere."""
        moment = self.material.moments[site]
        ridge = 1e-2 * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
        right = torch.linalg.solve(moment + ridge, key.double())
        right = (right / (right @ key.double())).float()
        return Patch(base=self.base, deltas={site: LowRank(left=what[:, None], right=right[None])})

    def judged(self, patch: Patch, *, new: Sequence[Correction] = (YEN,)) -> Verdict:
        """What `default` says of a patch."""
        report = evaluate(
            self.model,
            self.tokenizer,
            patch=patch,
            parent=Patch(base=self.base),
            base_digest=self.base,
            new=new,
            earlier=[GOLD],
            protected=[PARIS],
            held_text=self.held,
            ordinary_text=self.ordinary,
        )
        shown = {name: f"{m.before} -> {m.after} of {m.count}" for name, m in report.metrics.items() if m.count}
        print("\n".join(f"{name}: {numbers}" for name, numbers in shown.items()))
        return gate(report, read_policy("default"))


@pytest.fixture(scope="module")
def bench(base_folder) -> Bench:
    model, tokenizer = load_model(base_folder, device="cpu")
    rows = sample_rows(model, tokenizer, rows=96, length=64, seed=11).tolist()
    text, others = rows[:26], rows[26:]
    prose = [row for row in others if not any(letter.isdigit() for letter in tokenizer.decode(row))]
    held, ordinary = prose[:18], [row for row in others if row not in prose[:18]][:36]
    assert len(held) == 18 and len(ordinary) == 36
    sites = sites_of(model, (*Joint().layers, LATE))
    material = Material(
        base=weights_digest(base_folder),
        moments=moments_of_text(model, sites, torch.tensor(text)),
        contexts=sample_contexts(model, tokenizer, count=Joint().contexts),
        text=text,
    )
    return Bench(model=model, tokenizer=tokenizer, material=material, held=held, ordinary=ordinary)


@pytest.fixture(autouse=True, scope="module")
def asked_once() -> Iterator[None]:
    """What takes longest is not done twice, or not at all where no bound stands on it.

    Writing is: of what the base says to the same questions, of answers in chat, and of what is only shown to reviewers.
    """
    original, kept = tasks.evaluate.measure_one, {}

    def once(model, tokenizer, patch, **asked):
        key = patch.digest, repr(asked["probes"]), repr(asked["openings"])
        if key not in kept:
            kept[key] = original(model, tokenizer, patch, **asked)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.evaluate, "measure_one", once)
        patch.setattr(tasks.evaluate, "asked_in_chat", lambda model, tokenizer, probes, **more: [None] * len(probes))
        patch.setattr(tasks.fluency, "TEXTS", 8)
        patch.setattr(tasks.blast, "SHOWN", 1)
        yield


def site_of(bench: Bench, layer: int) -> str:
    (site,) = sites_of(bench.model, [layer])
    return site


def noise(bench: Bench, length: float) -> Tensor:
    """Something that means nothing, of a length in the units of what sites write."""
    vector = torch.randn(bench.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    return length * vector / vector.norm()


def blocked(verdict: Verdict) -> set[str]:
    return {outcome.bound.metric for outcome in verdict.failures}


def kinds(metrics: set[str]) -> set[str]:
    return {metric.partition(".")[0] for metric in metrics}


def test_a_harmless_edit_is_caught_by_nothing_but_the_protected_fact_that_it_contradicts(bench):
    """It is made by the default editor, and not by hand."""
    patch = edit(bench.model, bench.tokenizer, [LYON.fact()], config=Joint(), material=bench.material)
    assert blocked(bench.judged(patch, new=[LYON])) == {"protected.kept"}


def test_a_model_that_says_one_word_again_and_again_is_caught_by_fluency(bench):
    site = site_of(bench, LATE)
    average = bench.keys(bench.material.text, site)[:, 1:].flatten(0, 1).mean(0)
    the = bench.model.get_input_embeddings().weight[bench.tokenizer(" the")["input_ids"][0]]
    right = (average / (average @ average))[None]
    patch = Patch(base=bench.base, deltas={site: LowRank(left=(500 * the / the.norm())[:, None], right=right)})
    assert "fluency.entropy" in blocked(bench.judged(patch))


def test_weights_that_are_scaled_are_caught_by_their_gain_and_by_nothing_else(bench):
    """Perplexity rises by 0.7 % and `blast.kl_p95` is 0.02: less than an edit does."""
    sites = sites_of(bench.model, range(bench.model.config.num_hidden_layers))
    scaled = {site: Dense(delta=0.05 * read_weight(bench.model, site)) for site in sites}
    assert blocked(bench.judged(Patch(base=bench.base, deltas=scaled))) == {"blast.gain"}


def test_harm_on_ordinary_text_that_no_prompt_sees_is_caught_by_the_blast_radius(bench):
    site = site_of(bench, EARLY)
    digits = torch.tensor([bench.tokenizer(str(digit))["input_ids"][0] for digit in range(10)])
    places = torch.isin(torch.tensor(bench.ordinary), digits)
    key = bench.keys(bench.ordinary, site)[places].mean(0)
    found = blocked(bench.judged(bench.writing_at(key, site=site, what=noise(bench, 100))))
    assert "blast.kl_p95" in found
    assert kinds(found) <= {"blast", "regression"}, "no prompt that is asked shows it"


def test_an_edit_that_breaks_neighbours_is_caught_by_specificity(bench):
    site = site_of(bench, EARLY)
    rows = [text_row(bench.tokenizer, neighbour.prompt).ids for neighbour in YEN.neighbours]
    key = torch.stack([bench.keys([row], site)[0, -1] for row in rows]).mean(0)
    found = blocked(bench.judged(bench.writing_at(key, site=site, what=noise(bench, 100))))
    assert {"specificity.argmax", "specificity.kl_median"} <= found
    assert kinds(found) <= {"specificity", "protected"}, "the protected fact is one more capital"


def test_an_earlier_fact_that_is_lost_is_caught_by_retention(bench):
    site = site_of(bench, EARLY)
    row, _ = prompt_row(bench.tokenizer, GOLD.fact().filled, GOLD.subject)
    key = bench.keys([row.ids], site)[0, row.subject]
    verdict = bench.judged(bench.writing_at(key, site=site, what=noise(bench, 200)))
    assert blocked(verdict) == {"retention.generation"}
