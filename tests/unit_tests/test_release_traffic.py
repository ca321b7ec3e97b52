"""Which arm of a release answers a unit: for every unit there is, and however weights grow."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.release.traffic import Taken, share_of

SALTS = st.binary(max_size=64).map(bytes.hex)
UNITS = st.text(st.characters(categories=None), max_size=50)
EXAMPLES = settings(max_examples=200, deadline=None)


@EXAMPLES
@given(SALTS, UNITS, st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_a_unit_has_one_share_and_growing_weights_never_take_it_from_the_challenger(salt, unit, weights):
    share = share_of(salt, unit)
    assert 0 <= share < 1
    assert share_of(salt, unit) == share
    answered = [share < weight for weight in sorted(weights)]
    assert answered == sorted(answered)
    assert answered == [Taken(salt, weight).has(unit) for weight in sorted(weights)]
    assert (Taken(salt, 0).has(unit), Taken(salt, 1).has(unit)) == (False, True)
    assert not Taken(salt, share).has(unit)


def test_units_are_spread_evenly_and_anew_for_another_salt_or_purpose():
    units = [f"user-{number}" for number in range(20_000)]
    by_one, by_other, by_purpose = (
        [share_of("ab", unit) < 0.1 for unit in units],
        [share_of("cd", unit) < 0.1 for unit in units],
        [share_of("ab", unit, b"shadow") < 0.1 for unit in units],
    )
    for taken in (by_one, by_other, by_purpose):
        assert abs(sum(taken) / len(units) - 0.1) < 0.008  # nearly four standard errors
    for taken in (by_other, by_purpose):
        both = sum(one and other for one, other in zip(by_one, taken, strict=True))
        assert abs(both / len(units) - 0.01) < 0.003


def test_the_share_is_the_same_in_every_version_of_this_program():
    assert [round(share_of("00ff", unit), 12) for unit in ("", "user-1", "käse")] == [0.086858716759, 0.311628182999, 0.692808517409]
