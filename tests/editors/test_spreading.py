"""Whatever stands between a site and the residual stream, a solve brings about what its injection did."""

import dataclasses

import pytest
import torch

from editors.batch import by_subject
from editors.facts import Fact
from editors.hooks import capture, injected
from editors.layouts import backbone_of, output_norm_of, site_module, sites_of
from editors.memit import edit
from editors.patch import applied
from editors.tokens import fact_row
from editors.values import optimise_injections

FACT = Fact(id="a", subject="Marie Curie", prompt="The mother tongue of {} is", target="Italy")
LAYER = 1


@pytest.fixture
def row(family):
    return fact_row(family.tokenizer, FACT)


def solved(family, layers):
    """The patch of one fact in its bare prompt with hardly a second moment, and its injection at the last layer."""
    values = dataclasses.replace(family.config.values, steps=8)
    config = dataclasses.replace(family.config, layers=layers, moment_weight=1e-9, values=values)
    material = dataclasses.replace(family.material, base=family.base, contexts=["{}"])
    patch = edit(family.model, family.tokenizer, [FACT], config=config, material=material)
    found = optimise_injections(
        family.model, family.tokenizer, by_subject([FACT]), layers=layers[-1:], contexts=["{}"], settings=values
    )
    assert found[0].norm() > 0
    return patch, found[0]


def at_subject(family, row):
    """What the site writes and the stream is after the layer, at the subject."""
    (site,) = sites_of(family.model, [LAYER])
    ids = torch.tensor([row.ids])
    seen = capture(family.model, lambda: backbone_of(family.model)(input_ids=ids), sites=[site], layers=[LAYER])
    output = site_module(family.model, site)(seen.keys[site])
    return output[0, row.subject], seen.hidden[LAYER][0, row.subject]


def stream_with(family, row, injection):
    with injected(family.model, sites_of(family.model, [LAYER]), injection[None], torch.tensor([row.subject])):
        return at_subject(family, row)[1]


def error(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def test_after_a_one_fact_solve_the_site_writes_its_value_on_every_layout(family, row):
    output, _ = at_subject(family, row)
    patch, injection = solved(family, (LAYER,))
    with applied(family.model, patch, base=family.base):
        assert error(at_subject(family, row)[0], output + injection[0]) < 1e-4


def test_after_a_one_fact_solve_the_stream_is_as_with_the_injection_on_every_layout(family, row):
    patch, injection = solved(family, (LAYER,))
    wanted = stream_with(family, row, injection)
    with applied(family.model, patch, base=family.base):
        assert error(at_subject(family, row)[1], wanted) < 1e-4


def test_a_range_of_layers_brings_the_stream_to_where_the_injection_did(family, row):
    _, stream = at_subject(family, row)
    patch, injection = solved(family, (0, LAYER))
    wanted = stream_with(family, row, injection)
    with applied(family.model, patch, base=family.base):
        _, reached = at_subject(family, row)
    if output_norm_of(family.model, LAYER) is None:
        assert error(reached, wanted) < 1e-4
    else:  # what the last site adds has a length of its own, and another site has moved what it is added to
        assert error(reached - stream, wanted - stream) < 0.3
