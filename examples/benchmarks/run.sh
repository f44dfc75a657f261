#!/usr/bin/env bash
# Set up this machine if need be and compare with the peers; see run.py for the options.
# Some 20 minutes; --quick takes 5.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$root/docker/setup-debian.sh"
# shellcheck source=docker/env.sh
. "$root/docker/env.sh" real
exec python "$root/examples/benchmarks/run.py" "$@"
