#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What each term of distillation brings on generated scenes, for each family of detectors: a teacher is trained, then students
# with the same budget, alone, with single terms and with all, from several seeds. As the published pairs begin with backbones
# from ImageNet, all begin with backbones that two detectors (Deformable DETR) learnt on other scenes before. Two runs side by
# side, a thread each. What is finished is passed over when the script is started again.
#   study.sh PROGRAM OUT [FAMILY..]
# OUT/results.tsv has a line for each run: family, variant, seed, AP, AP50, seconds; OUT/results.md means and spreads.
# From the environment: SEEDS ("1 2 3"), JOBS (2), SCENES (500), VARIANTS (all that are below), epochs of the three kinds of
# runs: EPOCHS (15), TEACHER_EPOCHS (24), BACKBONE_EPOCHS (24). All of it takes about two and a half hours on two cores.
set -eu
program=$1
out=$2
shift 2
families=${*:-deformable conditional adamixer dino}
seeds=${SEEDS:-1 2 3}
jobs=${JOBS:-2}
epochs=${EPOCHS:-15}
teacher_epochs=${TEACHER_EPOCHS:-24}
backbone_epochs=${BACKBONE_EPOCHS:-24}
scenes=${SCENES:-500}
# none: logits and features, without a prior; all of them: assigned. Two more that are not of the rule: prior-init, prior-group,
# which are Table 4's rows without the other terms (its Assigned is prior, its None alone).
variants=${VARIANTS:-alone logits features prior none init group assigned}
mkdir -p "$out"

# Student and teacher differ in their backbone, like the published pairs: queries and width are the same, so that every prior
# fits.
common=queries=20,width=64,ffn=128,dropout=0
small=stem=8,widths=16,32,48,64,depths=1,1,1,1
large=stem=16,widths=32,64,96,128,depths=1,2,2,1

architecture()
{
    case $1 in
    deformable) echo "deformable_detr:r18,$common,refine=1,encoder-layers=1,decoder-layers=2,$2" ;;
    conditional) echo "conditional_detr:r18,$common,heads=4,encoder-layers=1,decoder-layers=2,$2" ;;
    adamixer) echo "adamixer:r18,$common,decoder-layers=2,$2" ;;
    dino) echo "dino:r18,$common,encoder-layers=1,decoder-layers=2,denoising=20,$2" ;;
    *)
        echo "study.sh: no family '$1'" >&2
        exit 2
        ;;
    esac
}

terms()
{
    case $1 in
    alone) echo off ;;
    logits) echo feature-mask=none prior=none ;;
    features) echo logits=0 prior=none ;;
    prior) echo logits=0 feature-mask=none prior=assigned ;;
    none) echo prior=none ;;
    init) echo prior=init ;;
    group) echo prior=group ;;
    assigned) echo prior=assigned ;;
    prior-init) echo logits=0 feature-mask=none prior=init ;;
    prior-group) echo logits=0 feature-mask=none prior=group ;;
    *)
        echo "study.sh: no variant '$1'" >&2
        exit 2
        ;;
    esac
}

# Conditional DETR reads one map of stride 32 alone: larger pictures, and fewer and larger shapes.
data_of()
{
    case $1 in
    conditional) echo "scenes:train=$scenes,val=200,size=128,classes=3,objects=3,smallest=large" ;;
    backbone) echo "scenes:train=$scenes,val=200,size=128,classes=3,seed=2" ;;
    *) echo "scenes:train=$scenes,val=200,size=128,classes=3" ;;
    esac
}

size_of()
{
    case $1 in
    conditional) echo 192 ;;
    *) echo 128 ;;
    esac
}

rates_of()
{
    case $1 in
    conditional) echo --lr 1e-3 --lr.backbone 0.3 ;;
    adamixer) echo --lr 3e-4 --lr.backbone 1 ;;
    *) echo --lr 1e-3 --lr.backbone 1 ;;
    esac
}

# Two families learn more slowly.
teacher_epochs_of()
{
    case $1 in
    conditional | adamixer) echo $((teacher_epochs * 5 / 2)) ;;
    *) echo "$teacher_epochs" ;;
    esac
}

# train NAME ARGUMENT..: a run in OUT/NAME; its result in OUT/NAME.json when it is finished.
train()
{
    name=$1
    kind=${name%%/*}
    size=$(size_of "$kind")
    data=$(data_of "$kind")
    shift
    [ -s "$out/$name.json" ] && return 0
    rm -rf "${out:?}/$name"
    mkdir -p "$(dirname "$out/$name")"
    began=$(date +%s)
    # shellcheck disable=SC2046 # options, a word each
    "$program" train --out "$out/$name" --data "$data" --batch 8 --sizes "$size" --crop 0 --clip 1 --warmup 50 \
        --lr.sampling 0.3 --eval-every 0 --log-every 50 --threads 1 $(rates_of "$kind") "$@" >"$out/$name.log" 2>&1 || return 1
    "$program" eval "$out/$name/student" --data "$data" --sizes "$size" --batch 4 --threads 1 --json >"$out/$name.eval" 2>>"$out/$name.log" || return 1
    printf '%s %s\n' "$(($(date +%s) - began))" "$(cat "$out/$name.eval")" >"$out/$name.json.new"
    rm -rf "${out:?}/$name/state.safetensors" "$out/$name/state.previous.safetensors" "$out/$name.eval"
    mv "$out/$name.json.new" "$out/$name.json"
}

# A detector of which the backbone is wanted, under names that --backbone reads.
learn_backbone()
{
    if [ "$1" = small ]; then
        train "backbone/small-0" --student "$(architecture deformable "$small")" --epochs "$backbone_epochs" --seed 0
    else
        train "backbone/large-0" --student "$(architecture deformable "$large")" --epochs "$backbone_epochs" --seed 0
    fi && "$program" convert "$out/backbone/$1-0/student" "$out/backbone/$1.safetensors" --to official >/dev/null
}

# One word of the list that the workers share: FAMILY/VARIANT-SEED.
work()
{
    family=${1%%/*}
    rest=${1#*/}
    variant=${rest%-*}
    seed=${rest##*-}
    if [ "$family" = backbone ]; then
        learn_backbone "$variant"
    elif [ "$variant" = teacher ]; then
        train "$1" --student "$(architecture "$family" "$large")" --backbone "$out/backbone/large.safetensors" \
            --epochs "$(teacher_epochs_of "$family")" --seed "$seed"
    else
        train "$1" --student "$(architecture "$family" "$small")" --backbone "$out/backbone/small.safetensors" \
            --epochs "$epochs" --seed "$seed" --teacher "$out/$family/teacher-0/student" --kd "$(terms "$variant")"
    fi || {
        echo "study.sh: $1 failed; its last lines, of $out/$1.log:" >&2
        tail -n 2 "$out/$1.log" >&2
        return 1
    }
    echo "$(date +%H:%M:%S) $1: $(seconds_of "$1") s, AP $(number_of "$1" AP)"
}

# Every JOBS-th word of a list, beginning with the n-th.
share()
{
    n=$1
    shift
    at=0
    failed=0
    for word in "$@"; do
        [ $((at % jobs)) -eq "$n" ] && { work "$word" || failed=1; }
        at=$((at + 1))
    done
    return $failed
}

side_by_side()
{
    children=
    n=0
    while [ "$n" -lt "$jobs" ]; do
        share "$n" "$@" &
        children="$children $!"
        n=$((n + 1))
    done
    bad=0
    for child in $children; do
        wait "$child" || bad=1
    done
    return $bad
}

seconds_of()
{
    cut -d' ' -f1 "$out/$1.json"
}

number_of()
{
    sed 's/[{}"]//g' "$out/$1.json" | tr ',' '\n' | sed -n "s/^\(.* \)\{0,1\}$2: \([-0-9.e]*\)\$/\2/p" | head -n 1
}

status=0
teachers=
students=
for family in $families; do
    architecture "$family" "$large" >/dev/null
    teachers="$teachers $family/teacher-0"
done
side_by_side backbone/small-0 backbone/large-0
# shellcheck disable=SC2086
side_by_side $teachers || status=1
for family in $families; do
    [ -s "$out/$family/teacher-0.json" ] || continue
    for seed in $seeds; do
        for variant in $variants; do
            students="$students $family/$variant-$seed"
        done
    done
done
# shellcheck disable=SC2086
[ -z "$students" ] || side_by_side $students || status=1

# ---- Tables
printf 'family\tvariant\tseed\tAP\tAP50\tseconds\n' >"$out/results.tsv"
for word in $teachers $students; do
    [ -s "$out/$word.json" ] || continue
    rest=${word#*/}
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "${word%%/*}" "${rest%-*}" "${rest##*-}" "$(number_of "$word" AP)" "$(number_of "$word" AP50)" \
        "$(seconds_of "$word")" >>"$out/results.tsv"
done
awk -F'\t' 'NR > 1 {
        key = $1 "\t" $2
        if (!(key in n)) order[++keys] = key
        n[key]++; sum[key] += $4; square[key] += $4 * $4; half[key] += $5; time[key] += $6
        if ($2 == "alone") { alone[$1] += $4; alones[$1]++ }
    }
    END {
        print "| family | variant | runs | AP, mean | spread | AP50 | to alone | seconds |\n|---|---|---|---|---|---|---|---|"
        for (i = 1; i <= keys; i++) {
            k = order[i]; split(k, part, "\t"); mean = sum[k] / n[k]
            variance = n[k] > 1 ? (square[k] - n[k] * mean * mean) / (n[k] - 1) : 0
            base = alones[part[1]] ? alone[part[1]] / alones[part[1]] : -1
            gain = base < 0 || part[2] == "teacher" ? "" : sprintf("%+.2f", 100 * (mean - base))
            printf "| %s | %s | %d | %.2f | %.2f | %.2f | %s | %.0f |\n", part[1], part[2], n[k], 100 * mean,
                100 * sqrt(variance > 0 ? variance : 0), 100 * half[k] / n[k], gain, time[k] / n[k]
        }
    }' "$out/results.tsv" >"$out/results.md"
cat "$out/results.md"
exit $status
