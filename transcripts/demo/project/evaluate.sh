#!/bin/sh
# Scores model.tsv on the held-out rows of iris.csv (every fifth). Exits with 1 below the accuracy given.
set -eu
min=${1:?usage: sh evaluate.sh MIN_ACCURACY}
[ -s model.tsv ] || { echo "evaluate: there is no model.tsv"; exit 1; }
awk -v min="$min" '
    FNR == NR { FS = "\t"; split($0, part, "\t"); name[++k] = part[1]; for (j = 0; j <= 4; j++) w[k, j] = part[j + 2]; next }
    FNR == 1 || (FNR - 1) % 5 != 0 { next }
    {
        split($0, x, ","); best = 1
        for (c = 1; c <= k; c++) {
            score[c] = w[c, 0]
            for (j = 1; j <= 4; j++) score[c] += w[c, j] * x[j]
            if (score[c] > score[best]) best = c
        }
        seen++; right += (name[best] == x[5]); table[x[5] " taken for " name[best]]++
    }
    END {
        if (!seen) { print "evaluate: no held-out rows"; exit 1 }
        for (pair in table) print pair ": " table[pair]
        printf "held-out accuracy %.4f on %d flowers (wanted: %s)\n", right / seen, seen, min
        exit (right / seen < min)
    }
' model.tsv iris.csv
