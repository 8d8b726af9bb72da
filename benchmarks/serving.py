"""Many clients at once: `corrigenda serve` against transformers' own `generate`, a request at a time.

Twenty clients ask one prompt after the other over HTTP, each for 24 greedy tokens, and wait for the whole answer. The
rival is what a small service often does: the same requests in one process, with `model.generate` behind a lock, no
HTTP around it. Also shown is `generate` on all prompts of a round as one padded batch, which no service with clients
that come and go can do. All three on the same model and machine in one run; the texts are compared.

    python -m benchmarks.serving [--clients 20] [--each 4] [--model FOLDER]
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import torch
import uvicorn

from benchmarks.ground import COUNTERFACT, folder_of, named, options, records_in
from benchmarks.outcome import Outcome, conclude
from consuming.versions import Version
from editors.models import load_model, weights_digest
from editors.tokens import pad, text_row
from tasks.openai_api import make_app
from tasks.service import Service
from tasks.service_metrics import Metrics

NAME = "assistant@champion"
TOKENS = 24


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clients", type=int, default=20, help="how many ask at once")
    parser.add_argument("--each", type=int, default=4, help="how many prompts each of them asks")
    told = parser.parse_args()
    folder = folder_of(told.model)
    prompts = [record.fact.filled for record in records_in([COUNTERFACT], limit=told.clients * told.each)]
    with serving(folder) as (service, url):
        served, ours = asked(prompts, clients=told.clients, ask=over_http(url))
        model, tokenizer = service.held.model, service.held.tokenizer
    locked, theirs = asked(prompts, clients=told.clients, ask=behind_a_lock(model, tokenizer))
    batched, together = in_batches(model, tokenizer, prompts, rows=told.clients)
    alike = sum(one == other for one, other in zip(ours, theirs, strict=True))
    ratio = {"throughput": served["tokens a second"] / locked["tokens a second"]}
    ratio |= {name: locked[name] / served[name] for name in ("median", "95th percentile")}
    outcome = Outcome(
        what=f"serve to {told.clients} clients against transformers' generate a request at a time",
        goal="> 1 x the throughput",
        reached=f"{ratio['throughput']:.1f} x the throughput ({served['tokens a second']:.0f} tokens a second against "
        f"{locked['tokens a second']:.0f}; one padded batch {batched['tokens a second']:.0f}); an answer after "
        f"{served['median']:.2f} s, 95th percentile {served['95th percentile']:.2f} s, against {locked['median']:.2f} "
        f"and {locked['95th percentile']:.2f} s; {alike} of {len(prompts)} answers alike",
        met=ratio["throughput"] > 1,
        setting=f"{folder.name}, {len(prompts)} prompts, {TOKENS} greedy tokens each, over HTTP on one machine",
    )
    figures = {
        "reached": ratio,
        "serve": served,
        "generate, a request at a time": locked,
        "generate, one padded batch a round": batched,
        "answered alike": alike,
        "batch answered alike": sum(one == other for one, other in zip(together, theirs, strict=True)),
        "compared": len(prompts),
        "model": folder.name,
        "data": named([COUNTERFACT]),
    }
    conclude("serving", [outcome], figures=figures, device=model.device, folder=told.results)


class Kept:
    """The model of a folder, as if it were release 0."""

    def __init__(self, folder):
        self._folder = folder

    def find(self):
        digest = weights_digest(self._folder)
        return Version(candidate=digest, manifest={"base": digest, "patch": ""}, release={"position": 0})

    def load(self, version):
        return load_model(self._folder, device="cpu")


@contextmanager
def serving(folder):
    """Yield a service and where it listens."""
    service = Service(NAME, source=Kept(folder))
    service.run(every=3600)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(make_app(service, Metrics()), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield service, f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def asked(prompts, *, clients, ask):
    """Return throughput and latency, and the answers in the order of the prompts."""
    ask(prompts[0])
    taken, said = [0.0] * len(prompts), [""] * len(prompts)

    def client(number):
        for at in range(number, len(prompts), clients):
            begun = time.perf_counter()
            said[at] = ask(prompts[at])
            taken[at] = time.perf_counter() - begun

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return figures_of(taken, time.perf_counter() - begun), said


def over_http(url):
    client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=None))

    def ask(prompt):
        body = {"model": NAME, "prompt": prompt, "max_tokens": TOKENS}
        answer = client.post("/v1/completions", json=body).raise_for_status().json()
        return answer["choices"][0]["text"]

    return ask


def behind_a_lock(model, tokenizer):
    lock = threading.Lock()

    def ask(prompt):
        with lock:
            return written(model, tokenizer, [prompt])[0]

    return ask


def in_batches(model, tokenizer, prompts, *, rows):
    said, taken, begun = [], [], time.perf_counter()
    for first in range(0, len(prompts), rows):
        started = time.perf_counter()
        said += written(model, tokenizer, prompts[first : first + rows])
        taken += [time.perf_counter() - started] * rows
    return figures_of(taken, time.perf_counter() - begun), said


@torch.no_grad()
def written(model, tokenizer, prompts):
    ids, mask = pad([text_row(tokenizer, prompt) for prompt in prompts], device=model.device, left=True)
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS, pad_token_id=tokenizer.eos_token_id
    )
    return tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


def figures_of(taken, seconds):
    ordered = sorted(taken)
    return {
        "tokens a second": len(taken) * TOKENS / seconds,
        "median": ordered[len(ordered) // 2],
        "95th percentile": ordered[int(len(ordered) * 0.95)],
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
