# Softmax regression by gradient descent on the training rows of iris.csv; writes model.tsv.
BEGIN {
    FS = ","
    lr = 0.2; epochs = 4000
    k = split("setosa versicolor virginica", name, " ")
}
NR == 1 || (NR - 1) % 5 == 0 { next }   # header, held-out rows
{ n++; y[n] = $5; x[n, 0] = 1; for (j = 1; j <= 4; j++) x[n, j] = $j }
END {
    for (e = 1; e <= epochs; e++) {
        loss = descend()
        if (!(loss < 1e9)) { print "train: loss " loss " in epoch " e " (lr " lr ")"; exit 3 }
        if (e % 250 == 0) { printf "epoch %d/%d loss %.4f\n", e, epochs, loss; fflush() }
    }
    for (c = 1; c <= k; c++) {
        line = name[c]
        for (j = 0; j <= 4; j++) line = line sprintf("\t%.6f", w[c, j])
        print line > "model.tsv"
    }
}
function descend(    c, i, j, z, sum, d, loss) {
    for (c = 1; c <= k; c++) for (j = 0; j <= 4; j++) g[c, j] = 0
    for (i = 1; i <= n; i++) {
        sum = 0
        for (c = 1; c <= k; c++) {
            z = 0
            for (j = 0; j <= 4; j++) z += w[c, j] * x[i, j]
            p[c] = exp(z); sum += p[c]
        }
        for (c = 1; c <= k; c++) {
            d = p[c] / sum - (name[c] == y[i])
            if (name[c] == y[i]) loss -= log(p[c] / sum)
            for (j = 0; j <= 4; j++) g[c, j] += d * x[i, j]
        }
    }
    for (c = 1; c <= k; c++) for (j = 0; j <= 4; j++) w[c, j] -= lr * g[c, j] / n
    return loss / n
}
