from pathlib import Path

import pytest
import torch

from editors.atomic import write_atomically
from editors.decoding import sample_rows
from editors.errors import DamagedArtifactError, NonFiniteError
from editors.layouts import read_weight, site_module, sites_of, write_weight
from editors.moments import dump_moments, load_moments, moments_of_text


def test_moments_agree_with_a_direct_computation_in_float64_that_skips_position_0(tiny):
    sites = sites_of(tiny.model, [0, 1])
    text = sample_rows(tiny.model, tiny.tokenizer, rows=40, length=9, seed=5)
    moments = moments_of_text(tiny.model, sites, text)
    for site in sites:
        read = []
        hook = site_module(tiny.model, site).register_forward_pre_hook(
            lambda _, inputs, read=read: read.append(inputs[0])
        )
        tiny.model(input_ids=text)
        hook.remove()
        keys = [key.double() for row in read[0] for key in row[1:]]
        direct = sum(torch.outer(key, key) for key in keys) / len(keys)
        torch.testing.assert_close(moments[site], direct, rtol=1e-5, atol=1e-7)


def test_saved_moments_come_back_bit_for_bit(tiny, tmp_path: Path):
    digest = write_atomically(tmp_path / "moments.safetensors", dump_moments(tiny.material.moments))
    loaded = load_moments(tmp_path / "moments.safetensors", expected=digest)
    assert all(torch.equal(loaded[site], moment) for site, moment in tiny.material.moments.items())
    assert dump_moments(loaded) == dump_moments(tiny.material.moments)


def test_truncated_moments_are_refused(tiny, tmp_path: Path):
    path = tmp_path / "moments.safetensors"
    digest = write_atomically(path, dump_moments(tiny.material.moments))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedArtifactError, match=digest):
        load_moments(path, expected=digest)


def test_nan_in_what_a_site_reads_is_refused(tiny):
    sites = sites_of(tiny.model, [0, 1])
    weight = read_weight(tiny.model, sites[0])
    write_weight(tiny.model, sites[0], weight.fill_(float("inf")))
    text = torch.tensor([[0, 4, 5, 6]])
    with pytest.raises(NonFiniteError, match=sites[1]):
        moments_of_text(tiny.model, sites, text)
