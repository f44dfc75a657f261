#!/usr/bin/env bash
# Build a newer PETSc and SLEPc than Debian's, with their Python bindings, from the source packages
# of PyPI, into a virtual environment of its own per scalar type:
#
#     bash docker/build-petsc.sh 3.26.1 real          # or complex; 10 to 40 minutes on two cores
#     . docker/env.sh real 3.26.1
#
# MUMPS, ScaLAPACK, Scotch, SuiteSparse (CHOLMOD, for which PETSc asks for C++), BLAS and MPI are
# Debian's. Run again, it goes on where it stopped.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "build-petsc.sh: $*" >&2
    exit 1
}

[ $# = 2 ] || fail "expected a version and real or complex; write: bash docker/build-petsc.sh 3.26.1 real"
version=$1 scalar=$2
case $scalar in
    real | complex) ;;
    *) fail "expected real or complex, got '$scalar'" ;;
esac
case $version in
    [0-9]*.[0-9]*.[0-9]*) ;;
    *) fail "expected a version such as 3.26.1, got '$version'" ;;
esac
venv=$root/.venv-petsc$version-$scalar
quick="-O1 -g0" # for the bindings, large generated C files: optimising them takes an hour

# The serial OpenBLAS, as docker/setup-debian.sh: libopenblas-dev would bring the one with threads
# and make it the BLAS of Debian's PETSc, too.
packages=(
    build-essential gfortran patchelf pkg-config python3-dev python3-venv openmpi-bin libopenmpi-dev
    libopenblas-serial-dev libmumps-dev libscalapack-openmpi-dev libscotch-dev libptscotch-dev
    libsuitesparse-dev libosmesa6
)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "expected to be root or to find sudo, got neither; run as root: $*"
    fi
}

install_packages() {
    local package missing=()
    command -v apt-get >/dev/null || fail "expected Debian 12, found no apt-get; use a container of debian:bookworm"
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] \
            || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "installing Debian packages: ${missing[*]}"
    as_root apt-get -qq -o Acquire::Retries=3 update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "${missing[@]}" >/dev/null
}

pip_install() {
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@" \
        || fail "pip failed at: $*; mend what it says above and run this again, it goes on from there"
}

# installed NAME VERSION
installed() {
    [ "$("$venv/bin/python" -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null)" = "$2" ]
}

build() {
    local name cores
    cores=$(nproc)
    export PETSC_CONFIGURE_OPTIONS="--with-scalar-type=$scalar --with-debugging=0 --with-make-np=$cores \
--with-fortran-bindings=0 --with-x=0 --with-hwloc=0 --with-ssl=0 \
--with-suitesparse=1 --with-blaslapack-lib=-lopenblas --with-scalapack-lib=-lscalapack-openmpi \
--with-ptscotch-include=/usr/include/scotch \
--with-ptscotch-lib=[-lptesmumps,-lptscotch,-lptscotcherr,-lesmumps,-lscotch,-lscotcherr] \
--with-mumps-include=/usr/include \
--with-mumps-lib=[-lsmumps,-ldmumps,-lcmumps,-lzmumps,-lmumps_common,-lpord]"
    unset PETSC_DIR PETSC_ARCH SLEPC_DIR
    for name in petsc petsc4py slepc slepc4py; do
        installed "$name" "$version" && continue
        echo "$(date +%H:%M:%S) building $name $version ($scalar)"
        case $name in
            *4py) export CFLAGS=$quick ;;
            *) unset CFLAGS ;;
        esac
        pip_install --no-build-isolation --no-deps --no-cache-dir "$name==$version"
    done
}

install_packages
[ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv "$venv"
pip_install "setuptools<81" wheel "cython>=3" "numpy>=2" "scipy>=1.14"
CFLAGS=$quick pip_install --no-binary mpi4py mpi4py
build
pip_install --no-build-isolation --editable "${root}[mesh,plot,plot3d,test]"

# A folder without geneig_adjoint, so that the test is of what is installed.
cd "$venv"
"$venv/bin/python" - "$version" "$scalar" <<'PYTHON'
import sys

import numpy
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import builds

found = "complex" if issubclass(PETSc.ScalarType, complex) else "real"
versions = [".".join(map(str, package.Sys.getVersion())) for package in (PETSc, SLEPc)]
print(f"{found}: PETSc {versions[0]}, SLEPc {versions[1]}, numpy {numpy.__version__}")
if found != sys.argv[2] or versions[0] != sys.argv[1]:
    sys.exit(f"expected PETSc {sys.argv[1]} ({sys.argv[2]}), got {versions[0]} ({found})")
if found == "real" and not builds.HAS_CHOLMOD:
    sys.exit("expected CHOLMOD in PETSc's real build, got none; look at SuiteSparse in configure's log")
PYTHON
echo "now: . docker/env.sh $scalar $version"
