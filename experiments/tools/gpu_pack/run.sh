#!/bin/sh
# Tests and times the CUDA library on this machine, without a network. Needed: an NVIDIA GPU with its driver, nvcc,
# g++ and python3. Beside this script: pack.tgz, COMMIT.
#
#   ./run.sh [folder to unpack into; work, beside this script, where left out] [task and flags]
#
# Leaves test_gpu.log, bench_gpu.log and bench_gpu.json beside this script. With a task, such as
#   ./run.sh work test:gpu --only memcheck --files decode
# that task is run alone, with its own exit code; what is built stays in the folder for the next call.
# Exit code 0: all well; 1: a test or a benchmark failed; 2: no GPU, or no build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$here/work}
[ $# -eq 0 ] || shift
mkdir -p "$work"
work=$(cd "$work" && pwd)

echo "unpacking to $work" >&2
rm -f "$work/bin/deno" # it may be running: a new file takes its place
python3 -W ignore -c 'import sys, tarfile
tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$here/pack.tgz" "$work"

PATH="$work/bin:$PATH"
DENO_DIR="$work/deno"
DENO_NO_UPDATE_CHECK=1
TOKENFILTER_CACHE="$work/cache"
TOKENFILTER_COMMIT=$(cat "$here/COMMIT")
TOKENFILTER_STD=npm
export PATH DENO_DIR DENO_NO_UPDATE_CHECK TOKENFILTER_CACHE TOKENFILTER_COMMIT TOKENFILTER_STD
if [ -z "${CUDA_HOME:-}" ] && [ -d /usr/local/cuda ]; then
  export CUDA_HOME=/usr/local/cuda
fi
cd "$work/tree"
# Nothing listens on this port: all is here already, and what asks for more fails at once.
echo 'registry=http://localhost:9/' > .npmrc

if [ $# -gt 0 ]; then
  exec deno task "$@"
fi

# Runs a task, shows what it says and keeps it in a file; leaves its exit code in $code.
logged() {
  log=$1
  shift
  {
    code=0
    deno task "$@" 2>&1 || code=$?
    echo "$code" > "$work/code"
  } | tee "$log"
  code=$(cat "$work/code")
}

logged "$here/test_gpu.log" test:gpu
[ "$code" -ne 2 ] || exit 2
tested=$code
logged "$here/bench_gpu.log" bench:gpu --out "$here/bench_gpu.json"
[ "$code" -eq 0 ] || tested=1
exit "$tested"
