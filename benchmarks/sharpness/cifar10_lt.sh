#!/usr/bin/env bash
# Sharpness by class of SGD, SAM and ImbSAM on long-tailed CIFAR-10: cifar10_lt.sh CIFAR10 [OUT], CIFAR10 being a folder of its
# Parquet files. Cross-entropy and logit adjustment, 3 seeds each; about 40 minutes on one core. Run again, it goes on.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
source="$1" out="${2:-runs/cifar10-lt}"
export PYTHONPATH="$here/../speed${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1
for loss in cross-entropy logit-adjustment; do
  imbsam compare "$source" --imbalance 100 --model small_networks:images --epochs 30 --rho 0.1 --loss "$loss" \
    --tail fewer-than=200 --few-below 200 --many-above 1000 --seeds 3 --jobs 1 --threads 1 \
    --methods sgd sam imbsam --out "$out/$loss"
  imbsam sharpness "$out/$loss" --epoch last --model small_networks:images --rows 64 --out "$out/$loss-sharpness"
  python "$here/groups.py" "$out/$loss-sharpness/sharpness.json" "$here/results/runs.jsonl"
done
