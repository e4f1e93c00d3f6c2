#!/usr/bin/env bash
# CIFAR on a lent GPU whose machine has jax, flax, optax and Orbax, and neither tensorflow-datasets nor grain nor tyro, and
# which takes the checkout and 64 MiB with each call. Run everything in the project's root.
#
#   here:             experiments/gpu/cifar10.sh pack FOLDER [SET]     SET: cifar10 (default) or cifar100
#   there, call 1:    bash experiments/gpu/cifar10.sh unpack lent1     carry lent1
#   there, call 2:    bash experiments/gpu/cifar10.sh unpack lent2     carry lent2; in the same call:
#                     bash experiments/gpu/cifar10.sh train cifar10_vgg16 [OPTIONS of dietjax train]
#
# Or, without images, what such a machine should measure:
#
#   here:             experiments/gpu/cifar10.sh packages
#   there, one call:  carry lent1; bash experiments/gpu/cifar10.sh bench [OPTIONS of dietjax bench all, such as --minutes 9]
#
# FOLDER holds SET_train*.imgpack.xz, SET_test.imgpack.xz and imgpack.py: the set's images compressed for the 64 MiB of a
# call, and the reader of that format. Neither is part of dietjax; images.py says what the reader has to return. On a machine
# that takes a whole set no pack is needed: put any file of the form that `--data.name npz:PATH` reads (README, "Data") there
# as $KEEP/SET.npz, install what is lacking, and call `train` alone.
#
# `pack` fills lent1/ and lent2/, which git ignores, with the images and with the packages that the machine lacks, as this
# environment has them: all of them Python alone. What is unpacked stays in $KEEP as long as the machine does: make call 2
# at once. `train` copies summary, page, metrics and config to $OUT/EXPERIMENT, and with RUN=NAME before it (for another
# seed, say) to $OUT/NAME; it stops after $LIMIT seconds, saved: the same call goes on from there.
# `packages` packs those alone; LACKING="NAMES" says which, to take SpikingJelly along, say. `bench` leaves its JSON in
# $OUT/bench; what an earlier call left there has to lie there again if it is to go on.
set -euo pipefail

KEEP=${KEEP:-/tmp/dietjax}
PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-500}
LACKING=${LACKING:-tyro docstring_parser typeguard tensorboardX}
here=$(cd "$(dirname "$0")" && pwd)

pack() {
    local folder=$1 set=${2:-cifar10} packs file
    packs=("$folder/$set"_train*.imgpack.xz "$folder/${set}_test.imgpack.xz" "$folder/imgpack.py")
    for file in "${packs[@]}"; do
        [ -f "$file" ] || { echo "there is no $file" >&2; exit 2; }
    done
    packages
    rm -rf lent2
    mkdir lent2
    cp "${packs[0]}" "$folder/imgpack.py" lent1/
    cp "${packs[@]:1}" lent2/
    du -sh lent1 lent2
}

packages() {
    rm -rf lent1
    mkdir lent1
    # shellcheck disable=SC2086  (a list)
    "$PYTHON" - lent1/site $LACKING <<'P'
import importlib.metadata, pathlib, shutil, sys
site, *names = sys.argv[1:]
for name in names:
    for file in importlib.metadata.files(name):
        if file.suffix in (".so", ".pyd"):
            sys.exit(f"{name} is not Python alone: {file}")
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = pathlib.Path(site, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)
P
}

unpack() {
    mkdir -p "$KEEP"
    [ ! -d "$1/site" ] || cp -r "$1/site" "$KEEP/"
    "$PYTHON" "$here/images.py" unpack "$1" "$KEEP"
    if ! [ -d "$KEEP/site" ]; then echo "unpack lent1 first: it has the packages" >&2; exit 2; fi
    environment
    "$PYTHON" -c 'import dietjax.cli.main, dietjax.run.recipe, dietjax.report.page, tensorboardX, jax; print(jax.devices())'
}

environment() {
    export PYTHONPATH=$here/../../src:$KEEP/site PYTHONUNBUFFERED=1
    export JAX_COMPILATION_CACHE_DIR=$KEEP/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=1
}

train() {
    local name=$1 set=${1#paper_} out=${OUT:-out}/${RUN:-$1} run=$KEEP/runs/${RUN:-$1} status=0 npz watts=""
    shift
    environment
    npz=$KEEP/${set%%_*}.npz
    [ -f "$npz" ] || npz=$("$PYTHON" "$here/images.py" join "$KEEP" "${set%%_*}")
    mkdir -p "$out"
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
        nvidia-smi --query-gpu=power.draw --format=csv,noheader,nounits -l 1 >"$KEEP/watts" &
        watts=$!
    fi
    timeout -k 30 "$LIMIT" "$PYTHON" -m dietjax train "$here/../$name.py" --workdir "$run" \
        --data.name "npz:$npz" "$@" || status=$?
    if [ -n "$watts" ]; then
        kill "$watts" || true
        awk '{joules += $1} END {printf "%.0f J of the GPU in %d s\n", joules, NR}' "$KEEP/watts" | tee "$out/joules.txt"
    fi
    for file in summary.json report.html metrics.jsonl config.json; do
        [ ! -f "$run/$file" ] || cp "$run/$file" "$out/"
    done
    return "$status"
}

bench() {
    mkdir -p "$KEEP"
    [ ! -d lent1/site ] || cp -r lent1/site "$KEEP/"
    environment
    "$PYTHON" -m dietjax bench all --out "${OUT:-out}/bench" "$@"
}

case ${1:-} in
    pack | packages | unpack | train | bench) "$@" ;;
    *) sed -n '2,26s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
