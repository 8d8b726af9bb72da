import json

import pytest

from editors.metrics import Drift
from editors.sweeping import Sweep, Trial
from tasks.sweeps import MlpTrace, TraceFileError, draw_sweep, keep_sweep, read_mlp_trace

LAYERS = (0, 2, 4, 6)


def swept(*scores: float) -> Sweep:
    """A sweep over every second layer with these scores."""
    trials = tuple(
        Trial(layer=layer, shares={"efficacy": 1.0, "score": score}, drift=Drift(median=0.1, p95=0.4, count=8))
        for layer, score in zip(LAYERS, scores, strict=True)
    )
    return Sweep(facts=2, prompts=6, unedited={"efficacy": 0.0, "score": 0.0}, trials=trials)


def written(tmp_path, **changes):
    """A file as an average trace is kept, whose MLPs at the subject's last token rise with the layer."""
    means = [[None] * 4, [None] * 4, [0.0, 0.02, 0.04, 0.06], *([[None] * 4] * 3)]
    content = {"facts": 7, "layers": list(LAYERS), "effects": {"mlp": {"mean": means}}}
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(content | changes), encoding="utf-8")
    return file


def test_a_trace_is_read_at_the_last_subject_token(tmp_path):
    found = read_mlp_trace(written(tmp_path), layers=range(8))
    assert found == MlpTrace(facts=7, effects={0: 0.0, 2: 0.02, 4: 0.04, 6: 0.06})


@pytest.mark.parametrize(
    ("changes", "layers", "reason"),
    [
        ({}, range(1, 6), "it has 2 of the 5 layers of the sweep; 3 are needed"),
        ({"layers": [0]}, range(8), "it is no average trace"),
        ({"effects": {"mlp": [[0.1]]}}, range(8), "it is no average trace"),
    ],
)
def test_a_file_that_is_no_trace_of_the_layers_is_refused(tmp_path, changes, layers, reason):
    with pytest.raises(TraceFileError, match=rf"trace.json: {reason}.*corrigenda locate --data FILE --out FOLDER"):
        read_mlp_trace(written(tmp_path, **changes), layers=layers)


def test_a_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(TraceFileError, match=r"nowhere\.json"):
        read_mlp_trace(tmp_path / "nowhere.json", layers=range(8))


def test_a_trace_foretells_a_sweep_by_the_layers_that_both_have():
    trace = MlpTrace(facts=7, effects={0: 0.1, 2: 0.2, 5: 0.0, 6: 0.3})
    found = trace.foretells(swept(0.9, 0.5, 0.1, 0.4))
    assert (found.layers, found.correlation) == (3, pytest.approx(-1))


def test_a_sweep_is_kept_with_its_best_layer_first(tmp_path):
    trace = MlpTrace(facts=7, effects=dict.fromkeys(LAYERS, 0.1))
    keep_sweep(tmp_path / "suggest.json", swept(0.2, 0.9, 0.4, 0.3), setting={"data": "facts.jsonl"}, trace=trace)
    kept = json.loads((tmp_path / "suggest.json").read_text(encoding="utf-8"))
    assert [trial["layer"] for trial in kept["ranking"]] == [2, 4, 6, 0]
    assert kept["ranking"][0]["score"] == 0.9
    assert kept["ranking"][0]["kl"] == {"median": 0.1, "p95": 0.4, "count": 8}
    assert kept["trace"]["rank_correlation"] is None  # of a trace that is the same everywhere
    assert kept["setting"] == {"data": "facts.jsonl"}


def test_a_sweep_is_drawn_without_a_trace_too(tmp_path):
    draw_sweep(tmp_path / "suggest.png", swept(0.2, 0.9, 0.4, 0.3), None)
    assert (tmp_path / "suggest.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
