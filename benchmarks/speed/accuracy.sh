#!/usr/bin/env bash
# What the cheaper passes do to accuracy, on paired seeds: BatchNorm by a few context rows against the whole batch, and
# the perturbation of the step before against a fresh one. Finished runs are kept, so it can be stopped and run again.
# Usage: accuracy.sh FASHION_MNIST_FOLDER CIFAR10_FOLDER [runs/accuracy]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
runs=${3:-runs/accuracy}
mkdir -p "$runs"
data=$(mktemp -d)
ln -s "$(cd "$1" && pwd)" "$data/fashion-mnist"
ln -s "$(cd "$2" && pwd)" "$data/cifar10"
python "$here/../first_results/kr_vs_k.py" "$data/kr-vs-k.csv"
runs=$(cd "$runs" && pwd)
cd "$data"
export PYTHONPATH=$here

statistics=(imbsam:batch-statistics=batch imbsam:context-rows=2 imbsam:context-rows=4 imbsam:context-rows=8 imbsam:context-rows=16)
reuse=(imbsam:ascent=reuse imbsam:ascent=reuse,ascent-options=refresh=5 imbsam:ascent=reuse,ascent-options=decay=0.9)
# A table's BatchNorm has one place a row, so it needs more rows.
table=(imbsam:batch-statistics=batch imbsam:context-rows={8,16,32,64})
table+=(imbsam:ascent=reuse,batch-statistics=batch imbsam:ascent=reuse,context-rows=32)
table+=(imbsam:ascent=reuse,context-rows=32,ascent-options=decay=0.9)

imbsam compare fashion-mnist --imbalance 100 --model small_networks:images --epochs 15 --loss logit-adjustment --rho 0.1 \
    --tail fewer-than=200 --few-below 200 --many-above 1000 --seeds 5 --jobs "${JOBS:-1}" --threads 1 \
    --methods "${statistics[@]}" "${reuse[@]}" sgd --out "$runs/fashion-mnist-lt"

imbsam compare kr-vs-k.csv --target Game --model small_networks:table --epochs 20 --loss logit-adjustment --rho 0.1 \
    --tail fewer-than=200 --few-below 200 --many-above 1000 --seeds 5 --jobs "${JOBS:-1}" --threads 1 \
    --methods "${table[@]}" sgd --out "$runs/kr-vs-k"

imbsam compare cifar10 --imbalance 100 --model small_networks:images --epochs 30 --loss logit-adjustment --rho 0.1 \
    --tail fewer-than=200 --few-below 200 --many-above 1000 --seeds 5 --jobs "${JOBS:-1}" --threads 1 \
    --methods imbsam:batch-statistics=batch imbsam:context-rows={4,8} imbsam:ascent=reuse imbsam:ascent=reuse,ascent-options=decay=0.9 sgd --out "$runs/cifar10-lt"

python "$here/../comparisons.py" "$here/results/runs.jsonl" "$runs"/{cifar10-lt,fashion-mnist-lt,kr-vs-k}
python "$here/table.py" --write
