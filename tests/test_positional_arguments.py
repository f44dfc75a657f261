"""Objectives of every kind are given p where they take it."""

import functools
from dataclasses import dataclass

import pytest

from geneig_adjoint.evaluation import positional_count

pytestmark = pytest.mark.any_scalars


@dataclass
class Called:
    power: int = 2

    def __call__(self, pairs, p, scale=1.0):
        pass

    def plain(self, pairs, *, p=None):
        pass

    @classmethod
    def of_class(cls, pairs, p_dot=None):
        pass

    @staticmethod
    def static(pairs, power=2):
        pass


class Inheriting(Called):
    pass


def with_defaults(pairs, /, p=None, power=2, *rest, scale=1.0):
    pass


@functools.wraps(with_defaults)
def wrapped(*arguments):
    pass


def shadowed():
    called = Called()
    called.__call__ = lambda: None  # which Python does not call
    return called


KINDS = {
    "instance": (Called(), 2),
    "inherited": (Inheriting(), 2),
    "shadowed call": (shadowed(), 2),
    "method": (Called().plain, 1),
    "class method": (Called.of_class, 2),
    "static method": (Called.static, 1),
    "function": (with_defaults, 2),
    "wrapped": (wrapped, 2),
    "lambda": (lambda pairs: None, 1),
    "any number": (lambda *pairs: None, 0),
    "partial": (functools.partial(with_defaults, power=3), 2),
}


@pytest.mark.parametrize(("function", "count"), KINDS.values(), ids=KINDS)
def test_arguments_to_be_given_are_counted(function, count):
    assert positional_count(function) == count
