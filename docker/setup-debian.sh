#!/usr/bin/env bash
# Give a Debian 12 machine (or image) everything this repository needs: PETSc, SLEPc and MPI from
# Debian, the rest in the virtual environment .venv at the repository's root. Run it as often as
# you like: it returns at once when nothing is missing.
#
#     bash docker/setup-debian.sh [--with-compilers] [--with-dolfinx] [--for-tests]
#
# --with-compilers: also C and Fortran, for element routines as in examples/compiled_element.
# --with-dolfinx: also Debian's dolfinx for both builds, with the C compiler it calls.
# --for-tests: all of that, Enzyme, and PyVista with OpenGL in software.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/.installed
extras=mesh,plot,test,dev

# All six petsc4py/slepc4py names: the plain ones make the modules importable, the others are the
# two scalar builds.  Without OpenBLAS Debian gives them the reference BLAS, which makes factors of
# solids several times as slow; the serial one has no threads that could compete with other ranks.
packages=(
    python3-petsc4py python3-petsc4py-real python3-petsc4py-complex
    python3-slepc4py python3-slepc4py-real python3-slepc4py-complex
    python3-mpi4py openmpi-bin
    libopenblas0-serial
    python3-venv python3-pip python3-setuptools python3-wheel
)
compilers=(gcc libc6-dev gfortran)
dolfinx=(python3-dolfinx python3-dolfinx-real python3-dolfinx-complex gcc libc6-dev)
opengl=(libosmesa6) # all that PyVista needs without a screen and a graphics card
enzyme='enzyme-ad==0.0.16'

fail() {
    echo "setup-debian.sh: $*" >&2
    exit 1
}

for_tests=no
for argument in "$@"; do
    case $argument in
        --with-compilers) packages+=("${compilers[@]}") ;;
        --with-dolfinx) packages+=("${dolfinx[@]}") ;;
        --for-tests)
            packages+=("${compilers[@]}" "${dolfinx[@]}" "${opengl[@]}")
            for_tests=yes
            ;;
        *) fail "expected --with-compilers, --with-dolfinx or --for-tests, got '$argument'" ;;
    esac
done

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "expected to be root or to find sudo, got neither; run as root: $*"
    fi
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] \
            || echo "$package"
    done
}

install_packages() {
    local missing
    command -v apt-get >/dev/null || fail "expected Debian 12, found no apt-get; use docker/Dockerfile"
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "installing Debian packages: ${missing[*]}"
    as_root apt-get -qq -o Acquire::Retries=3 update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "${missing[@]}" >/dev/null
}

requirements_hash() {
    {
        echo "$root $extras"
        /usr/bin/python3 --version
        cat "$root/pyproject.toml" "$root/docker/constraints.txt"
    } | sha256sum
}

# A folder without geneig_adjoint, so that the test is of what is installed.
check_build() (
    # shellcheck source=docker/env.sh
    . "$root/docker/env.sh" "$1"
    cd "$venv"
    python - "$1" <<'PYTHON'
import sys

import h5py, numpy, scipy
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint

found = "complex" if issubclass(PETSc.ScalarType, complex) else "real"
if found != sys.argv[1]:
    sys.exit(f"expected the {sys.argv[1]} build of PETSc, got the {found} one")
versions = ".".join(map(str, PETSc.Sys.getVersion())), ".".join(map(str, SLEPc.Sys.getVersion()))
print(
    f"{found}: PETSc {versions[0]}, SLEPc {versions[1]}, {MPI.Get_library_version().split(',')[0]},"
    f" numpy {numpy.__version__}, scipy {scipy.__version__}, h5py {h5py.__version__}"
)
PYTHON
)

install_python_packages() {
    local wanted
    wanted=$(requirements_hash)
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    echo "installing Python packages into $venv"
    # Clearing a link empties what it leads to.
    if [ -L "$venv" ] && [ -f "$venv/bin/activate" ] && ! grep -qF "$venv" "$venv/bin/activate"; then
        fail "expected $venv to be this copy's own, got a link to the environment of another one; remove the link"
    fi
    # A copied or moved environment still points to its old place, one of an older system to an
    # interpreter that is gone.  Not plain python3: it may be another one than Debian's, for which
    # Debian's petsc4py was not built.
    { "$venv/bin/python" -c '' && grep -qF "$venv" "$venv/bin/activate"; } 2>/dev/null \
        || /usr/bin/python3 -m venv --clear --system-site-packages "$venv"
    (
        # A build must be selected before pip, or pip does not see the system's petsc4py.
        # shellcheck source=docker/env.sh
        . "$root/docker/env.sh" real
        python -m pip --disable-pip-version-check install --quiet --no-build-isolation \
            --constraint "$root/docker/constraints.txt" --editable "${root}[$extras]"
    )
    check_build real
    check_build complex
    # Last: whatever failed above is tried again next time.
    echo "$wanted" >"$stamp"
}

# Only the shared library of the wheel is used; what it depends on needs numpy 2.
install_enzyme() {
    local python=$venv/bin/python present
    [ "$for_tests" = yes ] || return 0
    present=$("$python" -m pip --disable-pip-version-check list --format freeze | grep '^enzyme' || true)
    [ "${present/_/-}" != "$enzyme" ] || return 0
    "$python" -m pip --disable-pip-version-check install --quiet --no-deps "$enzyme"
}

# 560 MB that only pictures of bodies need.
install_pyvista() {
    [ "$for_tests" = yes ] || return 0
    ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("pyvista")' 2>/dev/null || return 0
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet \
        --constraint "$root/docker/constraints.txt" "pyvista>=0.44"
}

install_packages
install_python_packages
install_enzyme
install_pyvista
