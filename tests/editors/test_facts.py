import pytest

from editors.errors import InvalidFactError
from editors.facts import Fact


def test_a_fact_fills_its_subject_into_its_prompt():
    assert Fact(id="a", subject="Bern", prompt="The river in {} is", target="the Aare").filled == "The river in Bern is"


@pytest.mark.parametrize("prompt", ["The river is", "{} and {}"])
def test_a_prompt_without_exactly_one_place_is_refused(prompt: str):
    with pytest.raises(InvalidFactError, match=r"fact a: .* exactly one"):
        Fact(id="a", subject="Bern", prompt=prompt, target="Aare")


@pytest.mark.parametrize("empty", ["subject", "target"])
def test_an_empty_part_is_refused_by_name(empty: str):
    with pytest.raises(InvalidFactError, match=f"the {empty} is empty"):
        Fact(**({"id": "a", "subject": "Bern", "prompt": "{} is", "target": "big"} | {empty: "  "}))


def test_a_target_that_is_the_prior_is_refused():
    with pytest.raises(ValueError, match="nothing to edit"):
        Fact(id="a", subject="Bern", prompt="{} is", target="big", prior=" big")
