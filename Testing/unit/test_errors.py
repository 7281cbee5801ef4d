"""Errors and findings: what was found, what was expected, what to do."""

from __future__ import annotations

import pytest

from MedSegRegLib import errors
from MedSegRegLib.errors import InputError, MedSegRegError, NoContrast, SpacingOutOfRange
from MedSegRegLib.report import Finding, Level, raise_refusals

ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_every_error_says_what_was_found_expected_and_to_be_done(error):
    caught = error("Two eyes.", "three", "look again")
    assert isinstance(caught, MedSegRegError)
    assert str(caught) == "Two eyes. Expected: three. To do: look again."
    assert (caught.found, caught.expected, caught.fix) == ("Two eyes.", "three", "look again")
    assert error.__doc__


def test_an_error_without_expectation_is_one_sentence():
    assert str(MedSegRegError("It rains")) == "It rains."


def test_the_first_refusal_is_raised_and_warnings_are_not():
    first, second = SpacingOutOfRange("too long"), NoContrast("grey")
    raise_refusals([Finding.info("seen"), Finding.warn("odd", "look")])
    with pytest.raises(InputError) as caught:
        raise_refusals([Finding.warn("odd"), Finding.refuse(first), Finding.refuse(second)])
    assert caught.value is first


def test_findings_read_as_sentences_and_are_ordered_by_level():
    assert str(Finding.warn("It is odd.", "Look again.")) == "It is odd. Look again."
    assert str(Finding.info("seen")) == "seen"
    assert Level.INFO < Level.WARN < Level.REFUSE
    assert str(Finding.refuse(NoContrast("All grey", "contrast", "look"))) == "All grey. look"
