"""How long a rank that failed waits for the others: longer where all processes are slow."""

import os

import pytest

from geneig_adjoint import endings

pytestmark = pytest.mark.any_scalars


class Clock:
    """Time that passes by sleeping alone, and something that happens at a certain time."""

    def __init__(self, happens):
        self.now, self.happens = 0.0, happens

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def Test(self):  # noqa: N802  # the name of mpi4py
        return self.now >= self.happens


@pytest.mark.parametrize(
    ("load", "patience"), [(0.0, 2.0), (4.0, 2.0), (8.0, 4.0), (1000.0, 10.0)], ids=str
)
def test_patience_grows_with_the_load_of_every_core(monkeypatch, load, patience):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for happens, arrived in ((0.9 * patience, True), (1.1 * patience, False)):
        clock = Clock(happens)
        monkeypatch.setattr(endings, "time", clock)
        assert endings.arrived(clock, 2.0) is arrived


def test_machine_that_does_not_know_its_load(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unknown)
    assert endings.crowding() == 1.0
