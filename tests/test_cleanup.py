"""Clean-up after a failure: all of it, in order, and the first error is the one that counts."""

import pytest

import geneig_adjoint as ga
from geneig_adjoint import collective

pytestmark = pytest.mark.failure("failing clean-up", through="api")


class Worn(collective.CollectiveContext):
    """Something whose close fails."""

    def __init__(self, comm, closed):
        self.comm, self.closed = comm, closed

    def close(self):
        self.closed.append(self)
        raise OSError("cannot close")


def test_error_of_a_close_is_a_note_on_the_first(comm):
    closed = []
    expected = pytest.raises(ga.InputError, match="first")
    with expected as caught, Worn(comm, closed), Worn(comm, closed):
        raise ga.InputError("first")
    assert len(closed) == 2
    note = "the clean-up failed, too: OSError: cannot close"
    assert caught.value.__notes__ == [note, note]


def test_error_of_a_close_alone_is_raised(comm):
    with pytest.raises(OSError, match="cannot close"), Worn(comm, []):
        pass


def fails(text, calls):
    def close():
        calls.append(text)
        raise OSError(text)

    return close


def test_all_closers_run_and_the_first_error_is_raised():
    calls = []
    with pytest.raises(OSError, match="one") as caught:
        collective.close_after(None, fails("one", calls), fails("two", calls), calls.clear)
    assert calls == []
    assert caught.value.__notes__ == ["the clean-up failed, too: OSError: two"]


@pytest.mark.parametrize("freed", [collective.freed_on_error, collective.freed_at_end])
def test_things_are_freed_after_an_error(comm, freed):
    calls = []
    with pytest.raises(ArithmeticError, match="work") as caught, freed(comm, fails("x", calls)):
        raise ArithmeticError("work")
    assert calls == ["x"]
    assert caught.value.__notes__ == ["the clean-up failed, too: OSError: x"]


def test_things_are_freed_at_the_end(comm):
    calls = []
    with collective.freed_on_error(comm, lambda: calls.append("error")):
        pass
    with collective.freed_at_end(comm, lambda: calls.append("end")):
        pass
    assert calls == ["end"]


def test_code_of_a_user_passes_its_errors_where_the_ranks_are_not_known():
    with pytest.raises(ArithmeticError, match="mine"), collective.users_code(None):
        raise ArithmeticError("mine")
