#!/usr/bin/env bash
# Does a GPU give the CPU's losses, and how fast is it? Run this on a machine with a GPU, with a
# binary that was built elsewhere (CONTRIBUTING.md). It needs no internet access:
#
#     scripts/gpu-check.sh --device cuda|vulkan|wgpu|metal|rocm [--binary COUPLET] [--out REPORT.md]
#         [--precision bf16] [--models "ViT-B-32:256 RN50:64"] [--nccl TESTS]
#
# Compares the losses of 20 steps of configs/shapes.toml on the CPU and on the device, then runs
# `couplet bench step` for each MODEL:BATCH. Exits with 1 if losses differ by more than TOLERANCE. TESTS, the test
# binary of couplet-train with the feature nccl, exchanges tensors by NCCL first, which needs libnccl.so.2 in
# LD_LIBRARY_PATH: one rank with any NCCL 2, and two ranks on one GPU, which NCCL allows since 2.30.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device="" binary="$root/target/release/couplet" out="" precision=f32 nccl=""
models="ViT-B-32:256 ViT-B-16:128 ViT-L-14:32 RN50:64"
# Relative difference of f32 losses over 20 steps; half precision is compared with the CPU's f32.
tolerance=1e-3

while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 ;;
    --binary) binary=$2 ;;
    --out) out=$2 ;;
    --precision) precision=$2 ;;
    --models) models=$2 ;;
    --nccl) nccl=$2 ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
    esac
    shift 2 || { echo "$1 needs a value" >&2; exit 2; }
done
[ -n "$device" ] || { sed -n '2,11p' "$0" >&2; exit 2; }
[ -x "$binary" ] || { echo "$binary: no such binary; build it or give its path with --binary" >&2; exit 2; }
[ "$precision" = f32 ] || tolerance=5e-2
out=${out:-"$root/gpu-check-$device.md"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prints one number of a JSON file.
number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" "$2" | head -1; }
losses() { sed -n 's/.*"step":\([0-9]*\),.*"loss":\([0-9.eE+-]*\),.*/\1 \2/p' "$1"; }
gpu_memory() {
    command -v nvidia-smi >/dev/null || { echo "-"; return; }
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1
}

steps() {
    (cd "$root" && "$binary" train configs/shapes.toml --run-dir "$work/$1" \
        --set device="$1" --set precision="$2" --set "schedule.length=20 steps" \
        --set "schedule.warmup=5 steps" --set "log.every=1 step" --set "eval=[]" \
        --set checkpoint.best= --set log.tensorboard=false) >"$work/$1.log" 2>&1 ||
        { cat "$work/$1.log" >&2; exit 1; }
    losses "$work/$1/metrics.jsonl" >"$work/$1.losses"
}

ranks=""
if [ -n "$nccl" ]; then
    for ranks_of_one_gpu in one_rank two_ranks; do
        if NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_DEBUG=WARN timeout 300 "$nccl" --ignored --nocapture \
            "comm::nccl::tests::$ranks_of_one_gpu" >"$work/nccl.log" 2>&1 &&
            grep -q "^test result: ok. 1 passed" "$work/nccl.log"; then
            ranks+="NCCL, $ranks_of_one_gpu: passed. "
        else
            cat "$work/nccl.log" >&2
            ranks+="NCCL, $ranks_of_one_gpu: FAILED. "
        fi
    done
fi

steps flex f32
cp "$work/flex.losses" "$work/cpu.losses"
rm -rf "$work/flex"
steps "$device" "$precision"
paste -d' ' "$work/cpu.losses" <(cut -d' ' -f2 "$work/$device.losses") >"$work/both"
gap=$(awk '{ d = ($2 - $3) / $2; d = d < 0 ? -d : d; if (d > most) most = d } END { print most + 0 }' "$work/both")
count=$(wc -l <"$work/both" | tr -d ' ')
verdict=$(awk -v gap="$gap" -v most="$tolerance" -v n="$count" 'BEGIN { print (n == 20 && gap <= most) ? "within" : "NOT within" }')

{
    echo "# $device compared with the CPU"
    echo
    date -u '+%Y-%m-%d %H:%M UTC'
    command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    echo
    echo "20 steps of configs/shapes.toml, $precision on $device, f32 on flex: $count losses. The largest"
    echo "relative difference is $gap, $verdict $tolerance."
    echo
    [ -z "$ranks" ] || { echo "$ranks"; echo; }
    echo "| step | flex | $device |"
    echo "|---|---|---|"
    awk '{ printf "| %s | %s | %s |\n", $1, $2, $3 }' "$work/both"
    echo
    echo "| model | batch | step, s | samples/s | TFLOP/s | of matmul peak | forward, images/s | memory, MiB |"
    echo "|---|---|---|---|---|---|---|---|"
} >"$out"

for case in $models; do
    model=${case%:*} batch=${case#*:}
    "$binary" bench step --model "$model" --batch "$batch" --precision "$precision" \
        --device "$device" --warm-up 3 --steps 10 --json >"$work/bench.json" 2>"$work/bench.log" &
    bench=$!
    most=0
    while kill -0 "$bench" 2>/dev/null; do
        now=$(gpu_memory)
        [ "$now" = "-" ] || [ "$now" -le "$most" ] || most=$now
        sleep 0.5
    done
    if ! wait "$bench"; then
        echo "| $model | $batch | failed: $(tail -1 "$work/bench.log" | tr '|' '/') | | | | | |" >>"$out"
        continue
    fi
    sed -n '/"step": {/,/}/p' "$work/bench.json" >"$work/step.json"
    sed -n '/"image_forward": {/,/}/p' "$work/bench.json" >"$work/forward.json"
    [ "$most" -gt 0 ] || most=$(awk -v bytes="$(number peak_memory_bytes "$work/bench.json")" \
        'BEGIN { print bytes == "" ? "-" : int(bytes / 1048576) }')
    awk -v model="$model" -v batch="$batch" -v s="$(number median_seconds "$work/step.json")" \
        -v rate="$(number samples_per_second "$work/step.json")" \
        -v flops="$(number flops_per_second "$work/step.json")" \
        -v share="$(number share_of_matmul_peak "$work/step.json")" \
        -v forward="$(number samples_per_second "$work/forward.json")" -v memory="$most" 'BEGIN {
            printf "| %s | %s | %.4f | %.1f | %.2f | %.0f%% | %.1f | %s |\n",
                model, batch, s, rate, flops / 1e12, 100 * share, forward, memory }' >>"$out"
done
cat "$out"
[ "$verdict" = within ] && [[ $ranks != *FAILED* ]]
