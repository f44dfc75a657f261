#!/usr/bin/env bash
# Set up this machine if need be and run every test: serially, then on 1, 2 and 3 ranks, with the
# real and the complex build of PETSc.
set -uo pipefail

usage() {
    cat <<'TEXT'
usage: bash tests/run.sh [options] [-- pytest arguments]

  --build real|complex   only this build (default: both)
  --petsc VERSION        PETSc built by docker/build-petsc.sh in place of Debian's
  --ranks "1 2 3"        rank counts of the parallel tests; "" for none
  --no-serial            only the parallel tests
  --soak                 only the long campaigns of tests/soak, with their numbers: hours; each
                         says beforehand what it takes, and -- -k NAME chooses some
  -x, --fail-fast        stop at the first stage that fails
  -h, --help             this text

Arguments after -- go to every pytest, for instance: -- -k adjoint
TEXT
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
builds=(real complex)
ranks="1 2 3"
petsc=
serial=yes
soak=no
fail_fast=no
pytest_arguments=()
selection=()
# Serial tests on several cores, and one process more: a quarter of the time tests wait for jobs to
# end.  A process takes 1.3 GB, so that more than four may not fit.
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which would count those of OpenMP
workers=$((cores < 4 ? cores + 1 : 4))
# Only for what no timeout of a single test catches; campaigns have more time.
stage_seconds=${STAGE_SECONDS:-}

usage_error() {
    echo "tests/run.sh: $*" >&2
    usage >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --build)
            case ${2-} in
                real | complex) builds=("$2") ;;
                *) usage_error "--build expects real or complex, got '${2-}'" ;;
            esac
            shift
            ;;
        --petsc)
            [[ ${2-} =~ ^[0-9.]+$ ]] || usage_error "--petsc expects a version, got '${2-}'"
            petsc=$2
            shift
            ;;
        --ranks)
            [[ ${2-x} =~ ^[0-9\ ]*$ ]] || usage_error "--ranks expects numbers, got '${2-}'"
            ranks=$2
            shift
            ;;
        --no-serial) serial=no ;;
        --soak) soak=yes ;;
        -x | --fail-fast) fail_fast=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            pytest_arguments=("$@")
            break
            ;;
        *) usage_error "unknown argument '$1'" ;;
    esac
    shift
done

[ "$soak" = no ] || ranks=
stage_seconds=${stage_seconds:-$([ "$soak" = yes ] && echo 21600 || echo 1200)}

if [ -z "$petsc" ]; then
    bash "$root/docker/setup-debian.sh" --for-tests || exit 1
else
    echo "the tests of dolfinx are left out: Debian's dolfinx works with Debian's PETSc only, not $petsc"
    echo "the tests of Enzyme are left out: docker/setup-debian.sh --for-tests installs it for Debian's PETSc"
    selection=(--ignore-glob='*/test_dolfinx*' --ignore-glob='*/test_enzyme*')
fi
cd "$root" || exit 1

scratch=$(mktemp -d)
summary=()
failures=0
trap 'rm -rf "$scratch"' EXIT
# Bash lets what runs in the background ignore interrupts.
trap 'echo "interrupted" >&2; [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
# What JAX has compiled in the processes of one stage, those of the next ones begin with.
export COMPILED_BEFORE=$scratch/compiled
mkdir "$COMPILED_BEFORE"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
# Output goes through a pipe (and mpirun always gives its ranks a terminal): decide for pytest.
color=no
[ -t 1 ] && color=yes

# become_pytest BUILD FOLDER [LAUNCHER...]: for a subshell, which ends with it.
become_pytest() {
    local build="$1" folder="$2" spread=()
    shift 2
    # A file's tests stay in one process: they share what is dear to set up.
    # One that dies is not replaced: pytest-xdist 3.8 may then wait forever for files it has had.
    [ $# -gt 0 ] || [ "$folder" = tests/soak ] || spread=(
        --numprocesses="$workers" --dist=loadfile --max-worker-restart=0
    )
    # Tests that know nothing of PETSc's scalars ran with the first build; a choice by hand wins.
    [ "$soak" = no ] && [ "$build" != "${builds[0]}" ] && spread+=(-m "not any_scalars")
    # shellcheck source=docker/env.sh
    . docker/env.sh "$build" ${petsc:+"$petsc"} || exit
    # pytest cleans up after earlier runs; several ranks would do so at once.
    TMPDIR=$(mktemp -d -p "$scratch") || exit
    JAX_COMPILATION_CACHE_DIR=$(mktemp -d -p "$scratch" compiled.XXXXXX) || exit
    export TMPDIR JAX_COMPILATION_CACHE_DIR
    # --foreground: an interrupt from the keyboard shall reach pytest and mpirun.
    exec timeout --foreground --kill-after=10 "$stage_seconds" \
        "$@" python -m pytest --color="$color" "$folder" \
        "${spread[@]}" "${selection[@]}" "${pytest_arguments[@]}" </dev/null
}

# "10 passed, 1 skipped in 3.21s", also "... in 75.02s (0:01:15)".
closing_line() {
    sed -E -e 's/\x1b\[[0-9;]*m//g' -e 's/\r$//' -e 's/^=+ //' -e 's/ =+$//' "$1" \
        | grep -E '^(([0-9]+ [a-z]+(, )?)+|no tests ran) in [0-9.]+s( \([0-9:]+\))?$' | tail -n 1
}

# The test that made the ranks abort, as mpi_tests/conftest.py prints it.
last_words() {
    grep -a -o -E '(FAILED|TIMEOUT) [^ ]+::[^ ]+' "$1" | tail -n 1 | grep -o '.*[^:]' || echo "see above"
}

# judge TITLE LOG CODE
judge() {
    local title="$1" log="$2" code="$3" verdict=FAILED closing
    closing=$(closing_line "$log")
    # 5: no tests, which is what a selection by hand may leave of a stage.
    if [ -n "$closing" ]; then
        if [ "$code" -eq 0 ] || { [ "$code" -eq 5 ] && [ "${#pytest_arguments[@]}" -gt 0 ]; }; then
            verdict=ok
        fi
    elif [ "$code" -eq 124 ]; then
        closing="stopped after $stage_seconds s"
    else
        closing="ended early with exit code $code: $(last_words "$log")"
    fi
    [ "$verdict" = ok ] || failures=$((failures + 1))
    summary+=("$(printf '%-6s  %-18s  %s' "$verdict" "$title" "$closing")")
    [ "$verdict" = ok ]
}

# Only while no stage runs, which could be writing.
collect_compiled() {
    find "$scratch" -path "$scratch/compiled.*" -type f \
        -exec cp --no-clobber --target-directory="$COMPILED_BEFORE" {} +
    rm -rf "$scratch"/compiled.*
}

# stage TITLE BUILD FOLDER [LAUNCHER...]
stage() {
    local title="$1" log="$scratch/log"
    shift
    echo
    echo "=== $title"
    (become_pytest "$@") 2>&1 | tee "$log"
    local code="${PIPESTATUS[0]}"
    collect_compiled
    judge "$title" "$log" "$code"
}

# Ranks without a core of their own wait for each other in turns, and all the longer the more cores
# they are spread over: where there are several such stages, each has one core.
crowded=()
run_crowded() {
    local places=() started=() entry title build count log pid failed=no
    read -r -a places < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
    while [ "${#crowded[@]}" -gt 1 ]; do
        started=()
        for entry in "${crowded[@]:0:${#places[@]}}"; do
            read -r build count <<<"$entry"
            log=$(mktemp -p "$scratch")
            (become_pytest "$build" mpi_tests \
                taskset --cpu-list "${places[${#started[@]}]}" mpirun -n "$count") >"$log" 2>&1 &
            started+=("$build, ranks: $count|$log|$!")
        done
        crowded=("${crowded[@]:${#started[@]}}")
        for entry in "${started[@]}"; do
            IFS='|' read -r title log pid <<<"$entry"
            echo
            echo "=== $title (${#started[@]} stages at once)"
            tail -n +1 -f --pid="$pid" "$log"
            wait "$pid"
            judge "$title" "$log" $? || failed=yes
        done
        collect_compiled
        [ "$failed" = no ] || [ "$fail_fast" = no ] || return
    done
    for entry in "${crowded[@]}"; do
        read -r build count <<<"$entry"
        stage "$build, ranks: $count" "$build" mpi_tests mpirun -n "$count"
    done
}

run_stages() {
    local build count launcher
    for build in "${builds[@]}"; do
        if [ "$soak" = yes ]; then
            stage "$build, soak" "$build" tests/soak || [ "$fail_fast" = no ] || return
        elif [ "$serial" = yes ]; then
            stage "$build, serial" "$build" tests || [ "$fail_fast" = no ] || return
        fi
        for count in $ranks; do
            if [ "$count" -gt "$cores" ] && [ "$cores" -gt 1 ] && [ -x "$(command -v taskset)" ]; then
                crowded+=("$build $count")
                continue
            fi
            # One rank needs no launcher, and leaves other cores to other files.
            launcher=(mpirun -n "$count")
            [ "$count" -gt 1 ] || launcher=()
            stage "$build, ranks: $count" "$build" mpi_tests "${launcher[@]}" \
                || [ "$fail_fast" = no ] || return
        done
    done
    run_crowded
}

SECONDS=0
run_stages

# Adds up pytest's closing lines: "2 failed, 10 passed in 3.1s" and so on; stages may overlap.
total() {
    printf '%s\n' "${summary[@]}" | awk -v seconds="$SECONDS" '
        match($0, /[0-9]+ [a-z]+(, [0-9]+ [a-z]+)* in [0-9.]+s/) {
            split(substr($0, RSTART, RLENGTH), halves, " in ")
            count = split(halves[1], parts, ", ")
            for (i = 1; i <= count; i++) {
                split(parts[i], words, " ")
                sub(/s$/, "", words[2])
                sums[words[2]] += words[1]
            }
            next
        }
        /(ended early|stopped after)/ { early++ }
        END {
            number = split("failed error passed skipped deselected xfailed xpassed warning", order, " ")
            for (i = 1; i <= number; i++)
                if (sums[order[i]]) line = line (line ? ", " : "") sums[order[i]] " " order[i]
            if (early) line = line (line ? ", " : "") early " stage(s) ended early"
            printf "%s in %ds\n", (line ? line : "no tests ran"), seconds
        }'
}

echo
echo "=== summary"
verdict=ok
[ "$failures" -eq 0 ] || verdict=FAILED
summary+=("$(printf '%-6s  %-18s  %s' "$verdict" all "$(total)")")
printf '%s\n' "${summary[@]}" | tee "${SUMMARY_FILE:-/dev/null}"
[ "$failures" -eq 0 ]
