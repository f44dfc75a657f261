#!/usr/bin/env bash
# Set up this machine if need be and run the examples: eigenvalue and eigenvector sensitivities of a
# matrix-free operator, of a composite plate, of a drum's shape, of a buckling plate, of a reactor
# core and of a solid part; the search for a plate of a high frequency.
# RANKS=4 bash examples/run.sh uses four MPI ranks (default 2).
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
ranks=${RANKS:-2}
out=$root/examples/out
SECONDS=0

times=()

# step TITLE COMMAND...
step() {
    local title=$1 start=$SECONDS
    shift
    echo
    echo "=== $title"
    "$@" || {
        local code=$?
        echo "examples/run.sh: '$*' ended with exit code $code" >&2
        exit "$code"
    }
    times+=("$(printf '%5d s  %s' "$((SECONDS - start))" "$title")")
}

# study NAME TITLE: solve the study of an example on all ranks, then draw its pictures.
study() {
    local name=$1 title=$2
    # Results are never overwritten by the program; these are ours to make again.
    rm -rf "${out:?}/$name"
    step "$title: solve on $ranks ranks" mpirun -n "$ranks" \
        geneig-adjoint run "examples/$name/study.toml" --set "output.directory=$out/$name"
    step "$title: pictures" python "examples/$name/plot.py" "$out/$name"
}

cd "$root"
step "set-up" bash docker/setup-debian.sh
# shellcheck source=docker/env.sh
. docker/env.sh real
mkdir -p "$out"

step "matrix-free rank-one operator" mpirun -n "$ranks" python examples/rank_one/rank_one.py
step "composite plate, elements in JAX" mpirun -n "$ranks" python examples/jax_element.py
step "drum of the lowest tone" mpirun -n "$ranks" python examples/shape/drum.py "$out/drum.png"
step "buckling plate, stresses solved for" \
    mpirun -n "$ranks" python examples/buckling/plate.py "$out/buckling.png"
study iaea2d "IAEA 2D reactor core"
study bracket "bracket"
rm -rf "${out:?}/stiff_plate"
step "plate of a high frequency: search on $ranks ranks" mpirun -n "$ranks" \
    geneig-adjoint optimize examples/stiff_plate/study.toml \
    --set "output.directory=$out/stiff_plate"
step "plate of a high frequency: picture" python examples/stiff_plate/plot.py "$out/stiff_plate"

echo
echo "=== results and pictures"
find "$out" -type f -printf '%8k kB  %p\n' | sort -k 3
echo
echo "=== time"
printf '%s\n' "${times[@]}" "$(printf '%5d s  %s' "$SECONDS" total)"
