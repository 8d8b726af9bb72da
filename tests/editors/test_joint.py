import dataclasses

import pytest
import torch

from editors.batch import by_subject
from editors.digests import sha256_file
from editors.errors import DamagedArtifactError, InvalidConfigError
from editors.hooks import capture, injected
from editors.joint import Joint, Value, edit, solve, solved_sites, values_in_batches, values_of
from editors.layouts import sites_of
from editors.tokens import fact_row


def values(tiny, facts, **changes) -> dict[str, Value]:
    config = dataclasses.replace(tiny.given("joint")["config"], **changes)
    return values_of(tiny.model, tiny.tokenizer, by_subject(facts), config=config, material=tiny.material)


def test_a_solve_for_one_subject_writes_each_sites_injection_at_its_key(tiny, facts):
    config = Joint(layers=(0, 1), fit=1 - 1e-9)
    value = values(tiny, facts[:1])["France"]
    patch = solve(tiny.model, {"France": value}, config=config, material=tiny.material)
    for place, site in enumerate(sites_of(tiny.model, config.layers)):
        written = patch.deltas[site].dense() @ value.keys[place]
        torch.testing.assert_close(written, value.injections[place], rtol=1e-4, atol=1e-4)


def test_keys_are_read_with_the_injections_of_earlier_sites_in_place(tiny, facts):
    material = dataclasses.replace(tiny.material, contexts=["{}"])
    config = Joint(layers=(0, 1), values=tiny.given("joint")["config"].values)
    value = values_of(tiny.model, tiny.tokenizer, by_subject(facts[:1]), config=config, material=material)["France"]
    row = fact_row(tiny.tokenizer, facts[0])
    first, second = sites_of(tiny.model, config.layers)
    with injected(tiny.model, [first], value.injections[None, :1].float(), torch.tensor([row.subject])):
        seen = capture(tiny.model, lambda: tiny.model(input_ids=torch.tensor([row.ids])), sites=[second])
    torch.testing.assert_close(value.keys[1].float(), seen.keys[second][0, row.subject], rtol=1e-4, atol=1e-4)


def test_kept_values_and_new_ones_solve_to_the_same_patch_as_all_at_once(tiny, facts):
    given = tiny.given("joint")
    together = edit(tiny.model, tiny.tokenizer, facts, **given)
    all_values = values(tiny, facts)
    again = solve(tiny.model, dict(reversed(all_values.items())), **given)
    assert again.digest == together.digest


def test_values_are_given_before_the_next_batch_is_optimised(tiny, facts):
    config = tiny.given("joint")["config"]
    config = dataclasses.replace(config, values=dataclasses.replace(config.values, budget=1))
    told = []
    batches = values_in_batches(
        tiny.model,
        tiny.tokenizer,
        by_subject(facts),
        config=config,
        material=tiny.material,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert len(next(batches)) == 1
    assert told[-2:] == [("values", 1, 3), ("keys", 1, 3)]
    assert len({subject for batch in batches for subject in batch}) == 2


def test_a_value_comes_back_from_its_file_bit_for_bit_and_no_other_file_is_taken(tiny, facts, tmp_path):
    value = values(tiny, facts[:1])["France"]
    path = tmp_path / "value"
    path.write_bytes(value.to_bytes())

    loaded = Value.load(path, expected=sha256_file(path))
    assert torch.equal(loaded.keys, value.keys)
    assert torch.equal(loaded.injections, value.injections)
    with pytest.raises(DamagedArtifactError):
        Value.load(path, expected="0" * 64)


def test_a_higher_fit_writes_more(tiny, facts):
    kept = values(tiny, facts)
    sizes = [
        sum(
            delta.dense().norm()
            for delta in solve(
                tiny.model, kept, config=Joint(layers=(0, 1), fit=fit), material=tiny.material
            ).deltas.values()
        )
        for fit in (0.5, 0.9, 0.99)
    ]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("wrong", [{"layers": ()}, {"layers": (2, 1)}, {"fit": 0.0}, {"fit": 1.0}, {"contexts": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        Joint(**wrong)


def test_a_solve_in_parts_writes_what_the_patch_does_and_misses_the_value_of_who_is_left_out(tiny, facts):
    given, kept = tiny.given("joint"), values(tiny, facts)
    sites = solved_sites(tiny.model, kept, config=given["config"], material=given["material"])
    patch = solve(tiny.model, kept, **given)
    assert list(sites) == list(patch.deltas)
    for place, (site, solved) in enumerate(sites.items()):
        torch.testing.assert_close(solved.delta().dense(), patch.deltas[site].dense(), rtol=1e-4, atol=1e-5)
        key, asked = kept["France"].keys[place], kept["France"].injections[place]
        without = solved.delta(without=[sorted(kept).index("France")])
        missed = [(delta.dense() @ key - asked).norm() for delta in (solved.delta(), without)]
        assert missed[1] > 2 * missed[0]
