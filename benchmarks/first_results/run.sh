#!/usr/bin/env bash
# The first results: CIFAR-10 made long-tailed, kr-vs-k, and the bundled digits with controls. Finished runs are kept, so it can be stopped and run again.
# Usage: run.sh CIFAR10_FOLDER (train.parquet and test.parquet in the layout of Hugging Face image data sets)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(mktemp -d)
ln -s "$(cd "$1" && pwd)" "$data/cifar10"
python "$here/kr_vs_k.py" "$data/kr-vs-k.csv"
mkdir -p runs
runs=$(cd runs && pwd)
cd "$data"

imbsam compare cifar10 --imbalance 100 --width 0.5 --epochs 20 --precision bfloat16 \
    --loss cross-entropy --class-prior loss --few-below 200 --many-above 1000 --seeds 3 --methods sgd sam imbsam --out "$runs/cifar10-lt"

imbsam compare kr-vs-k.csv --target Game --loss cross-entropy --class-prior loss --epochs 40 --few-below 200 --many-above 1000 --tail fewer-than=200 --rho 0.2 \
    --seeds 3 --methods sgd sam imbsam sgd:loss=class-balanced sam:rho=0.05 imbsam:rho=0.05 imbsam:rho=0.02 --out "$runs/kr-vs-k"

imbsam compare digits --loss cross-entropy --class-prior loss --methods sgd sam imbsam sgd:loss=class-balanced imbsam:tail-weight=2 sgd:loss=logit-adjustment \
    sam:loss=logit-adjustment imbsam:loss=logit-adjustment imbsam:ascent=random --seeds 6 --out "$runs/digits"

imbsam compare digits --loss cross-entropy --class-prior loss --methods imbsam imbsam:ascent=rise,rho=0.5 imbsam:rho=0.1 imbsam:rho=0.5 imbsam:loss=logit-adjustment \
    imbsam:ascent=rise,rho=0.5,loss=logit-adjustment imbsam:rho=0.5,loss=logit-adjustment sgd sgd:loss=logit-adjustment \
    --seeds 6 --jobs 1 --threads 1 --track none --out "$runs/digits-rise"

imbsam compare digits --loss cross-entropy --class-prior loss --methods sgd:reweight-from=0.8 sam:reweight-from=0.8 imbsam:reweight-from=0.8 \
    imbsam:ascent=rise,rho=0.5,reweight-from=0.8 --seeds 6 --jobs 1 --threads 1 --track none --out "$runs/digits-late"

python "$here/../comparisons.py" "$here/results/runs.jsonl" "$runs"/{cifar10-lt,digits,digits-late,digits-rise,kr-vs-k}
python "$here/table.py"
