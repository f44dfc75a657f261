import pytest
from petsc4py import PETSc

from geneig_adjoint import _petsc


def fail(*, wrapped):
    """Raise PETSc's error 76, as it is or as slepc4py 3.26 hands it on."""
    error = PETSc.Error(76)
    if wrapped:
        raise SystemError("returned a result with an exception set") from error
    raise error


class Broken:
    def __init__(self, action):
        self.destroy = action


@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_are_petsc_errors_in_every_version(wrapped):
    with pytest.raises(PETSc.Error) as caught, _petsc.plain_errors():
        fail(wrapped=wrapped)
    assert caught.value.ierr == 76


@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_are_translated_in_every_version(wrapped):
    with pytest.raises(ValueError, match="76") as caught, _petsc.translated_errors(ValueError):
        fail(wrapped=wrapped)
    assert isinstance(caught.value.__cause__, PETSc.Error)


@pytest.mark.parametrize("wrapped", [False, True])
def test_destroying_quietly_goes_on_after_an_error(wrapped):
    seen = []
    broken = Broken(lambda: fail(wrapped=wrapped))
    _petsc.destroy_quietly(broken, Broken(lambda: seen.append("destroyed")))
    assert seen == ["destroyed"]


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("cause", [MemoryError("no room"), PETSc.Error(63)], ids=["own", "PETSc"])
def test_what_a_callback_raised_comes_as_it_is_in_every_version(layers, cause):
    error = cause
    for _ in range(layers):  # callbacks that call PETSc
        outer = PETSc.Error(_petsc.RAISED_BY_CALLBACK)
        outer.__cause__, error = error, outer
    with pytest.raises(type(cause)) as caught, _petsc.plain_errors():
        raise error
    assert caught.value is cause


def test_other_system_errors_pass():
    with pytest.raises(SystemError, match="of another kind"), _petsc.plain_errors():
        raise SystemError("of another kind")


def test_errors_of_other_kinds_are_not_hidden():
    def action():
        raise SystemError("of another kind")

    with pytest.raises(SystemError, match="of another kind"):
        _petsc.destroy_quietly(Broken(action))
