#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A small teacher teaches a smaller student on generated scenes; beside it the same student learns alone, from the same seed.
# Ends with a table, a plot and pictures.
#   distil_scenes.sh PROGRAM OUT [EPOCHS]
# The teacher beside this script was made by:
#   detrdistill train --data scenes:train=4000,val=200,size=128 --out run_teacher --epochs 14 --batch 8 --sizes 128 --crop 0 \
#     --student deformable_detr:r18,stem=16,widths=32,64,128,192,width=96,queries=40,encoder-layers=2,decoder-layers=3,ffn=256,refine=1,dropout=0 \
#     --lr 8e-4 --lr.backbone 1 --lr.sampling 0.3 --warmup 100 --eval-limit 100 --threads 1
#   detrdistill convert run_teacher/best teacher --bf16
set -eu
program=$1
out=$2
epochs=${3:-12}
teacher=$(dirname "$0")/teacher
data=scenes:train=1500,val=200,size=128
student=deformable_detr:r18,stem=16,widths=32,64,96,128,width=64,queries=20,encoder-layers=1,decoder-layers=2,ffn=128,refine=1,dropout=0
mkdir -p "$out"
rm -rf "$out/alone" "$out/taught"

learn()
{
    run=$1
    shift
    "$program" train --data "$data" --student "$student" --teacher "$teacher" --out "$out/$run" --epochs "$epochs" --batch 8 \
        --sizes 128 --crop 0 --lr 1e-3 --lr.backbone 1 --lr.sampling 0.3 --warmup 50 --eval-every 2 --eval-limit 100 --seed 1 --threads 1 "$@"
}

row()
{
    "$program" eval "$2" --data "$data" --sizes 128 --batch 4 --json |
        sed 's/"classes".*//; s/[{}"]//g' | tr ',' '\n' |
        awk -F': ' -v name="$1" 'function figure(x) { return x < 0 ? sprintf("%7s", "-") : sprintf("%7.4f", x) }
            { gsub(/ /, "", $1); at[$1] = $2 }
            END { printf "%-22s %s %s %s %s %s\n", name, figure(at["AP"]), figure(at["AP50"]), figure(at["AP_S"]), figure(at["AP_M"]), figure(at["AP_L"]) }'
}

# One thread each: two cores learn both at once.
learn alone --kd off >"$out/alone.log" 2>&1 &
alone=$!
trap 'kill -INT $alone 2>/dev/null || true' EXIT
printf '== the student with its teacher (alone: %s/alone.log)\n' "$out"
learn taught --kd stage=first # two stages of the student, the first two of the teacher
wait "$alone" || {
    tail -n 3 "$out/alone.log" >&2
    exit 1
}
trap - EXIT
"$program" plot "$out/alone" "$out/taught" --column ap --out "$out/ap.svg"
"$program" predict "$out/taught/student" --data "$data" --split val --sizes 128 --draw 4 --score 0.3 --out "$out/pictures" >/dev/null
printf '\n%-22s %7s %7s %7s %7s %7s\n' '200 scenes' AP AP50 S M L
row teacher "$teacher"
row 'student alone' "$out/alone/student"
row 'student with teacher' "$out/taught/student"
printf '\ncurves: %s/ap.svg   pictures: %s/pictures\n' "$out" "$out"
