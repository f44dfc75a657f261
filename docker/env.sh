# shellcheck shell=sh
# Select a PETSc/SLEPc scalar build and activate the virtual environment.
#
#     . docker/env.sh real            (or complex)
#     . docker/env.sh real 3.26.1     (a PETSc built by docker/build-petsc.sh)
#
# Works from any directory under bash. Plain sh passes no arguments to a sourced file and does not
# say where it lies: there, stand inside the repository and write `set -- real; . docker/env.sh`.
# Sourcing again with the other word switches the build.

_ga_fail() {
    echo "docker/env.sh: $*" >&2
    unset _ga_root _ga_petsc _ga_slepc _ga_venv _ga_remedy
    unset -f _ga_fail
    return 2
}

case ${1-} in
    real | complex) ;;
    *) _ga_fail "expected real or complex, got '${1-}'; write: . docker/env.sh real"; return 2 ;;
esac

if [ -n "${BASH_SOURCE-}" ]; then
    # shellcheck disable=SC3028,SC3054  # only reached under bash
    _ga_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
else
    _ga_root=$PWD
    while [ "$_ga_root" != / ] && [ ! -f "$_ga_root/docker/env.sh" ]; do
        _ga_root=$(dirname -- "$_ga_root")
    done
fi

if [ -n "${2-}" ]; then
    # The bindings of this environment know where their PETSc and SLEPc are.
    unset PETSC_DIR SLEPC_DIR PETSC_ARCH
    _ga_venv=$_ga_root/.venv-petsc$2-$1
    _ga_remedy="docker/build-petsc.sh $2 $1"
else
    # The folder names carry the processor architecture.
    _ga_petsc=$(echo /usr/lib/petscdir/petsc3.18/*-linux-gnu-"$1")
    _ga_slepc=$(echo /usr/lib/slepcdir/slepc3.18/*-linux-gnu-"$1")
    if [ ! -d "$_ga_petsc" ] || [ ! -d "$_ga_slepc" ]; then
        _ga_fail "expected PETSc and SLEPc 3.18 ($1) of Debian 12, found none; run: bash docker/setup-debian.sh"
        return 2
    fi
    # Both: with one of them petsc4py and slepc4py load different builds into one process.
    export PETSC_DIR="$_ga_petsc" SLEPC_DIR="$_ga_slepc"
    unset PETSC_ARCH
    _ga_venv=$_ga_root/.venv
    _ga_remedy=docker/setup-debian.sh
fi
if [ ! -f "$_ga_venv/bin/activate" ]; then
    _ga_fail "expected a virtual environment in $_ga_venv, found none; run: bash $_ga_remedy"
    return 2
fi

# shellcheck disable=SC1091
. "$_ga_venv/bin/activate"

# One process per core: threads of BLAS would compete with the other ranks.
export OMP_NUM_THREADS=1
# More ranks than cores is normal for tests; waiting ranks must then give way, and two jobs at a
# time must not be bound to the same cores.
export OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
unset _ga_root _ga_petsc _ga_slepc _ga_venv _ga_remedy
unset -f _ga_fail
