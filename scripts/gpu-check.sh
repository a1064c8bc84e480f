#!/usr/bin/env bash
# Does a GPU give the CPU's numbers, and how fast is it? Run this on a machine with a GPU, with a binary that was built
# elsewhere (CONTRIBUTING.md). It needs Python, and no internet access:
#
#     scripts/gpu-check.sh --device cuda|vulkan|wgpu|metal|rocm [--binary COUPLET] [--out REPORT.md]
#         [--models "ViT-B-32:256 ViT-L-14:128"] [--precision bf16] [--operations PROGRAM] [--nccl TESTS]
#         [--cache FILE.tar.gz]
#
# Each check has a time limit of its own and a row of the report, in this order: whether anything runs; gradients tensor
# by tensor and the losses of 20 steps, compared with the CPU's; the kernels of a step by time; steps of each MODEL:BATCH
# and of a large batch; single operations (PROGRAM, `cargo build --release --example operations`, and PyTorch's); PyTorch's
# steps, where open_clip is installed; memory over 200 steps; batch.micro = "auto". TESTS, the test binary of couplet-train
# with the feature nccl, exchanges tensors by NCCL, which needs libnccl.so.2: one rank with any NCCL 2, two on one GPU since
# 2.30. FILE becomes CubeCL's cache of compiled kernels. Ends with 1 if a check of values fails.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device="" binary="$root/target/release/couplet" out="" precision=bf16 nccl="" operations="" cache=""
models="ViT-B-32:256 ViT-B-16:128 ViT-L-14:128 RN50:128" large="ViT-B-32:1024"

while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 ;;
    --binary) binary=$2 ;;
    --out) out=$2 ;;
    --precision) precision=$2 ;;
    --models) models=$2 large="" ;;
    --operations) operations=$2 ;;
    --nccl) nccl=$2 ;;
    --cache) cache=$2 ;;
    *) sed -n '2,16p' "$0" >&2; exit 2 ;;
    esac
    shift 2 || { echo "$1 needs a value" >&2; exit 2; }
done
[ -n "$device" ] || { sed -n '2,16p' "$0" >&2; exit 2; }
binary=$(realpath -e "$binary") || exit 2
out=$(realpath -m "${out:-"$root/gpu-check-$device.md"}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# Runs a command for at most so many seconds, with what it prints in $work/said; says why there is no result.
limited() {
    local seconds=$1 code=0
    shift
    timeout -k 5 "$seconds" "$@" >"$work/said" 2>&1 || code=$?
    [ $code != 124 ] && [ $code != 137 ] || echo "no result in $seconds s" >"$work/said"
    return $code
}
row() { echo "| $1 | $2 |" >>"$out"; }
# The last line that was printed.
last() { grep -v '^ *$' "$work/said" | tail -1 | tr '|' '/' | cut -c1-300; }
number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" "$2" | head -1; }
memory() {
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1
    else
        echo -
    fi
}

{
    echo "# $device compared with the CPU"
    echo
    date -u '+%Y-%m-%d %H:%M UTC'
    "$binary" --version
    command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    echo
    echo "| check | result |"
    echo "|---|---|"
} >"$out"

# train NAME DEVICE PRECISION STEPS [SETTING...]: a run of configs/shapes.toml with a small model.
train() {
    local name=$1 on=$2 in=$3 steps=$4
    shift 4
    local settings=()
    for setting in "$@"; do settings+=(--set "$setting"); done
    (cd "$root" && limited 120 "$binary" train configs/shapes.toml --run-dir "$work/$name" \
        --set device="$on" --set precision="$in" --set "schedule.length=$steps steps" \
        --set "log.every=1 step" --set "eval=[]" --set checkpoint.best= --set log.tensorboard=false "${settings[@]}")
}

begun=$SECONDS
if limited 90 "$binary" bench step --model ViT-Ti-16-64 --batch 8 --device "$device" --warm-up 1 --steps 1; then
    row "a step of a small model" "runs; $((SECONDS - begun)) s with the compilation of its kernels"
else
    row "a step of a small model" "FAILED: $(last)"
    failed=1
fi

one_step=("batch.global=32" "schedule.warmup=0 steps" "model.preset=ViT-Ti-16-64")
train cpu cpu fp32 1 "${one_step[@]}"
precisions=fp32
[ "$precision" = fp32 ] || precisions="fp32 $precision"
for in in $precisions; do
    [ "$in" = fp32 ] && most=2e-3 || most=1e-1
    if train "gradients-$in" "$device" "$in" 1 "${one_step[@]}" &&
        limited 60 python3 "$root/scripts/compare-gradients.py" "$work/gradients-$in" "$work/cpu" --most $most; then
        row "gradients in $in" "within $most: $(last)"
    else
        row "gradients in $in" "FAILED: $(last)"
        failed=1
    fi
done

losses() { sed -n 's/.*"step":\([0-9]*\),.*"loss":\([0-9.eE+-]*\),.*/\1 \2/p' "$work/$1/metrics.jsonl"; }
train cpu-20 cpu fp32 20 "schedule.warmup=5 steps"
for in in $precisions; do
    [ "$in" = fp32 ] && most=1e-3 || most=5e-2
    if ! train "losses-$in" "$device" "$in" 20 "schedule.warmup=5 steps"; then
        row "losses of 20 steps in $in" "FAILED: $(last)"
        failed=1
        continue
    fi
    verdict=$(paste -d' ' <(losses cpu-20) <(losses "losses-$in" | cut -d' ' -f2) | awk -v most=$most '
        { gap = ($2 - $3) / $2; gap = gap < 0 ? -gap : gap; if (gap > largest) largest = gap; n++ }
        END { print (n == 20 && largest <= most ? "within" : "FAILED: not within") " " most ": at most " largest + 0 }')
    row "losses of 20 steps in $in" "$verdict"
    [[ $verdict != FAILED* ]] || failed=1
done

if [ -n "$nccl" ]; then
    for ranks in one_rank two_ranks; do
        if NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_DEBUG=WARN limited 300 "$nccl" --ignored --nocapture \
            "comm::nccl::tests::$ranks" && grep -q "^test result: ok. 1 passed" "$work/said"; then
            row "NCCL, $ranks" passed
        else
            row "NCCL, $ranks" "FAILED: $(last)"
            failed=1
        fi
    done
fi

# Each kernel's time with the device waited for after each, so a sum is more than a step.
first=${models%% *}
printf '[profiling]\nlogger = { level = "medium", file = "%s" }\n' "$work/profile" >"$work/cubecl.toml"
(cd "$work" && limited 90 "$binary" bench step --model "${first%:*}" --batch "${first#*:}" --precision "$precision" \
    --device "$device" --warm-up 2 --steps 2)
rm -f "$work/cubecl.toml"
if [ -s "$work/profile" ]; then
    # A kernel's first launch has its compilation in it: the median is taken.
    by_kernel=$(python3 - "$work/profile" <<'P'
import collections, re, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1], errors="replace"):
    found = re.match(r"\| ([\d.]+)(ns|µs|ms|s)\s*\| (\S+)", line)
    if found:
        name = re.sub(r"_[0-9a-f]{6,}$", "", found[3])
        times[name].append(float(found[1]) * {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}[found[2]])
sums = {name: statistics.median(of) * len(of) for name, of in times.items()}
top = sorted(sums.items(), key=lambda item: -item[1])[:12]
print(", ".join(f"{name} {ms:.1f} ({len(times[name])})" for name, ms in top))
P
    )
    row "kernels of ${first%:*} by ms, with their launches (4 steps and 4 forward passes)" "$by_kernel"
else
    row "kernels of ${first%:*} by time" "$(last)"
fi

# bench MODEL:BATCH LIMIT STEPS
bench() {
    local model=${1%:*} batch=${1#*:} most=0 now pid code=0
    timeout -k 5 "$2" "$binary" bench step --model "$model" --batch "$batch" --precision "$precision" --device "$device" \
        --warm-up 5 --steps "$3" --json "$work/bench.json" >"$work/said" 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        now=$(memory)
        [ "$now" = - ] || [ "$now" -le "$most" ] || most=$now
        sleep 0.5
    done
    wait $pid || code=$?
    if [ $code != 0 ]; then
        [ $code != 124 ] || echo "no result in $2 s" >"$work/said"
        row "a step of $model, batch $batch, $precision" "$(last)"
        return
    fi
    sed -n '/"step": {/,/}/p' "$work/bench.json" >"$work/step.json"
    row "a step of $model, batch $batch, $precision, $3 steps" "$(awk -v s="$(number median_seconds "$work/step.json")" \
        -v rate="$(number samples_per_second "$work/step.json")" -v flops="$(number flops_per_second "$work/step.json")" \
        -v share="$(number share_of_matmul_peak "$work/step.json")" -v memory="$most" 'BEGIN {
            printf "%.4f s, %.0f samples/s, %.1f TFLOP/s, %.0f%% of the products, %s MiB", s, rate, flops / 1e12,
                        100 * share, (memory > 0 ? memory : "-") }')"
}
for case in $models $large; do bench "$case" 90 10; done

if [ -n "$operations" ]; then
    limited 90 "$operations" "$device" && row "single operations" "below"
    { cp "$work/said" "$work/operations"; } 2>/dev/null
fi
if python3 -c 'import torch, open_clip' 2>/dev/null && [ "$device" = cuda ]; then
    for case in $models; do
        for compiled in 0 1; do
            [ $compiled = 0 ] && how=eager || how=compiled
            # Seconds and the peak of the host's memory.
            limited 120 python3 "$root/experiments/performance/step.py" --torch "${case%:*}" "${case#*:}" 77 cuda:0 \
                "$precision" $compiled
            row "PyTorch's step of ${case%:*}, batch ${case#*:}, $how" "$(last | cut -d' ' -f1)"
        done
    done
fi
bench "${first}" 120 200

# More pairs than fit at once.
if train auto "$device" "$precision" 1 model.preset=ViT-L-14 batch.global=2048 'batch.micro="auto"' \
    data.train.samples_per_epoch=2048 "schedule.warmup=0 steps"; then
    row "a batch of 2048 of ViT-L-14" "$(sed -n 's/^micro *//p' "$work/said"), $(grep -o '[0-9]* samples/s' "$work/said" | tail -1)"
else
    row "a batch of 2048 of ViT-L-14" "$(last)"
fi

if [ -n "$cache" ]; then
    tar -C "$HOME" -czf "$cache" .cache/cubecl 2>/dev/null && row "the cache of compiled kernels" "$(du -h "$cache" | cut -f1)"
fi
if [ -s "$work/operations" ]; then
    { echo; echo '```'; cat "$work/operations"; echo '```'; } >>"$out"
fi
cat "$out"
exit $failed
