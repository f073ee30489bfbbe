"""Every deliberate failure has its exit code."""

from __future__ import annotations

from cspine import errors


def test_each_error_has_the_exit_code_of_the_contract():
    codes = {error.__name__: error.exit_code for error in errors.CspineError.__subclasses__()}
    assert codes == {
        "UsageError": 2,
        "NoUsableSeriesError": 3,
        "InputError": 4,
        "ModelError": 5,
        "OutputError": 6,
        "TimeLimitError": 124,
        "TerminatedError": 143,
    }


def test_anything_else_is_a_bug():
    assert errors.exit_code_of(KeyError("x")) == 1
    assert errors.exit_code_of(errors.InputError("x")) == 4
