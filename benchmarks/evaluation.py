"""Evaluating CounterFact records: all prompts together against a record at a time, as the published code does.

Both sides weigh the same targets and priors behind the same prompts, and tell whether the model by itself writes the
target, on the same machine in one run; their answers are compared. The reference runs each record's prompts, every
one with its target and with its prior, as one padded batch through the whole model, with the logits of the whole
vocabulary at every position, reads each token's log-probability off them one by one (kmeng01/memit,
experiments/py/eval_utils_counterfact.py; own code here), and lets transformers write as many tokens as our answers may
have. We read each prompt once, and write until it is settled whether the answer begins with the target.

What the reference takes for a record does not depend on how many there are; so it is given some of them, evenly spread.

    python -m benchmarks.evaluation [--data FILE] [--limit 100] [--reference 20] [--model FOLDER]
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.ground import COUNTERFACT, console, folder_of, named, options, records_in
from benchmarks.outcome import Outcome, conclude
from editors.answers import starts_with
from editors.measuring import probes_of
from editors.models import load_model
from editors.scoring import ANSWER_TOKENS, says_targets, weigh
from editors.tokens import answer_row, pad, text_row

GOAL = 5.0


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--limit", type=int, default=100, help="how many of them")
    parser.add_argument("--reference", type=int, default=20, help="how many of these the reference evaluates")
    told = parser.parse_args()
    records = [probes_of(record) for record in records_in([told.data], limit=told.limit)]
    folder = folder_of(told.model)
    model, tokenizer = load_model(folder, device="cpu")
    step = -(-len(records) // told.reference)
    together(model, tokenizer, records[:1])
    one_by_one(model, tokenizer, records[:1])
    first, _ = together(model, tokenizer, records)
    rival, expected = one_by_one(model, tokenizer, track(records[::step], "reference", console=console))
    again, found = together(model, tokenizer, records)
    ours = {name: max(first[name], again[name]) for name in rival}
    ratio = {name: rival[name] / ours[name] for name in rival}
    pairs = [pair for own, other in zip(found[::step], expected, strict=True) for pair in zip(own, other, strict=True)]
    apart = max(abs(mine - theirs) for one, other in pairs for mine, theirs in zip(one[:2], other[:2], strict=True))
    alike = sum(one[2] == other[2] for one, other in pairs)
    outcome = Outcome(
        what=f"evaluation of {len(records)} records against the per-record reference",
        goal=f">= {GOAL:.0f} x faster",
        reached=f"{ratio['all']:.1f} x ({ours['all']:.2f} s a record against {rival['all']:.2f} s; in processor time "
        f"{ratio['processor']:.1f} x; weighing alone {ratio['weighing']:.1f} x), within {apart:.0e} nats, "
        f"{alike} of {len(pairs)} prompts answered alike",
        met=ratio["all"] >= GOAL,
        setting=f"{folder.name} unedited, {sum(map(len, records))} prompts, target and prior weighed, up to "
        f"{ANSWER_TOKENS} tokens written; the reference on {len(expected)} records",
    )
    figures = {
        "reached": ratio,
        "seconds a record": {"ours, before": first, "ours, after": again, "reference": rival},
        "largest difference in nats": apart,
        "answered alike": alike,
        "compared": len(pairs),
        "model": folder.name,
        "records": len(records),
        "records of the reference": len(expected),
        "data": named([told.data]),
    }
    conclude("evaluation", [outcome], figures=figures, device=model.device, folder=told.results)


def together(model, tokenizer, records):
    """Return seconds a record by stage, and of each record's prompts both log-probabilities and what is said."""
    clock = Clock()
    weighed = weigh(model, tokenizer, [probe for own in records for probe in own])
    clock.add("weighing")
    said = says_targets(model, tokenizer, weighed)
    clock.add("writing")
    answers = ((each.target_logprob, each.prior_logprob, yes) for each, yes in zip(weighed, said, strict=True))
    return clock.seconds(len(records)), [list(islice(answers, len(own))) for own in records]


@torch.no_grad()
def one_by_one(model, tokenizer, records):
    """Return the same, a record at a time."""
    clock, answers = Clock(), []
    for probes in records:
        weighed = weighed_whole(model, tokenizer, probes)
        clock.add("weighing")
        said = written_whole(model, tokenizer, probes)
        clock.add("writing")
        answers.append([(*logprobs, yes) for logprobs, yes in zip(weighed, said, strict=True)])
    return clock.seconds(len(answers)), answers


class Clock:
    """Adds up seconds; those of the processor hardly change when other programs share the cores."""

    def __init__(self):
        self._began = self._last = time.perf_counter()
        self._processor = time.process_time()
        self._stages = defaultdict(float)

    def add(self, stage):
        now = time.perf_counter()
        self._stages[stage] += now - self._last
        self._last = now

    def seconds(self, records):
        """Return the seconds a record."""
        processor = time.process_time() - self._processor
        spent = {**self._stages, "all": self._last - self._began, "processor": processor}
        return {name: seconds / records for name, seconds in spent.items()}


def weighed_whole(model, tokenizer, probes):
    rows = [answer_row(tokenizer, probe.prompt, answer) for probe in probes for answer in (probe.target, probe.prior)]
    ids, mask = pad(rows, device=model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits
    means = []
    for place, row in enumerate(rows):
        total = 0.0
        for at in range(row.target, len(row.ids)):
            total += logits[place, at - 1].log_softmax(0)[row.ids[at]].item()
        means.append(total / (len(row.ids) - row.target))
    return list(zip(means[::2], means[1::2], strict=True))


def written_whole(model, tokenizer, probes):
    rows = [text_row(tokenizer, probe.prompt.rstrip()) for probe in probes]
    ids, mask = pad(rows, device=model.device, left=True)
    written = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=ANSWER_TOKENS, pad_token_id=rows[0].ids[0]
    )
    texts = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    return [starts_with(text, probe.target) for text, probe in zip(texts, probes, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
