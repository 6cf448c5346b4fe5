"""The whole cascade for a few faces on the CPU as compiled loops, the exit included.

The hidden layer's weights are read once and used once, so memory sets the pace. They are stored input by input (see
`musica.network.HiddenLinear`): the weights of a few patches are contiguous. A thread describes some patches, reads
their weights, and goes on to the next ones; while one computes, the other reads. All iterations are one call, since
after megabytes of weights the interpreter's own memory is in no cache, and what it does between two iterations takes
several times as long as elsewhere.

The arithmetic is that of `Stage` and `CascadeNet.run`, without gradients; sums run in another order.
Symbols: A faces, M patches, F features of a patch (256), N landmarks, U hidden units, W size of the sums over an
iteration's inputs (U, or the hidden layer's rank), G rank of the attention, T iterations, K threads.
"""

from __future__ import annotations

import numpy as np

from common.native import atomic_add, compiled, compiled_sums, let_others_run
from musica.native.patches import describe_patches, flat_weights
from musica.types import FEATURES

WIDEST = 7  # place among the weights of the layer that all features meet
GROUP = 4  # patches that are described before their piece of the hidden layer is read
APART = 8  # counters that share no line of the cache
PATIENCE = 1000  # looks at a counter before others may have the core

# exp(x) = 2^n * exp(r), n whole and r within half of ln 2: the powers of two are written as bits, the rest is Taylor's
# polynomial, whose first term left out is below a tenth of single precision's last digit there.
LOG2_E, LN_2_HIGH, LN_2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
LARGEST = np.float32(87.0)  # of an argument; exp(-87) is close to the least normal number
HALF, ONE, TWO, ZERO = np.float32(0.5), np.float32(1), np.float32(2), np.float32(0)
T6, T5, T4, T3 = (np.float32(1 / n) for n in (720, 120, 24, 6))
BIAS, MANTISSA = 127, 23  # of single precision's exponent


@compiled_sums
def _exp(x: np.ndarray, bits: np.ndarray, powers: np.ndarray) -> None:
    """Replace x (n,) by its exponentials; `bits` (n,) int32 is room, and `powers` the same memory as float32."""
    for i in range(len(x)):
        value = x[i]
        value = LARGEST if value > LARGEST else -LARGEST if value < -LARGEST else value  # NaN stays NaN
        scaled = value * LOG2_E
        whole = np.int32(scaled + (HALF if scaled > ZERO else -HALF))
        n = np.float32(whole)
        r = (value - n * LN_2_HIGH) - n * LN_2_LOW
        bits[i] = (whole + BIAS) << MANTISSA
        x[i] = ONE + r * (ONE + r * (HALF + r * (T3 + r * (T4 + r * (T5 + r * T6)))))
    for i in range(len(x)):
        x[i] *= powers[i]


@compiled_sums
def _linear(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n, O) with weight (O, I) times each of x (n, I)."""
    last, final = len(x) - 1, len(weight) - 1
    for p in range(0, len(x), 4):  # four patches and two outputs at a time: a number read is used more than once
        p1, p2, p3 = min(p + 1, last), min(p + 2, last), min(p + 3, last)
        f0, f1, f2, f3 = x[p], x[p1], x[p2], x[p3]
        for o in range(0, len(weight), 2):
            o1 = min(o + 1, final)
            one, two = weight[o], weight[o1]
            a = b = c = d = e = f = g = h = ZERO
            for i in range(len(one)):
                u, v = one[i], two[i]
                a += u * f0[i]
                b += u * f1[i]
                c += u * f2[i]
                d += u * f3[i]
                e += v * f0[i]
                f += v * f1[i]
                g += v * f2[i]
                h += v * f3[i]
            out[p3, o1], out[p2, o1], out[p1, o1], out[p, o1] = h, g, f, e
            out[p3, o], out[p2, o], out[p1, o], out[p, o] = d, c, b, a


@compiled_sums
def _gates(
    seen: np.ndarray, thin: np.ndarray, weight: np.ndarray, bias: np.ndarray, bits: np.ndarray, out: np.ndarray
) -> None:
    """Fill out (n, F) with the gates of features `seen` (n, F): the sigmoid of weight times each, plus bias (F,).

    The weight is (F, F) and `thin` is empty, or it is (F, G) after `thin` (G, F). `bits` (F,) int32 is room.
    """
    if len(thin):
        between = np.empty((len(seen), len(thin)), np.float32)
        _linear(seen, thin, between)
        _linear(between, weight, out)
    else:
        _linear(seen, weight, out)
    powers = bits.view(np.float32)
    for p in range(len(seen)):
        gate = out[p]
        for i in range(FEATURES):
            gate[i] = -(gate[i] + bias[i])
        _exp(gate, bits, powers)
        for i in range(FEATURES):
            gate[i] = ONE / (ONE + gate[i])


@compiled
def _gated_features(
    image: np.ndarray,
    centres: np.ndarray,
    scale: object,
    official: bool,
    first: np.ndarray,
    first_bias: np.ndarray,
    second: np.ndarray,
    second_bias: np.ndarray,
    thin: np.ndarray,
    gate: np.ndarray,
    gate_bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out (n F or more,) with what a face's patches (n) bring to the hidden layer.

    Args:
        image, centres, scale, official, first, first_bias, second, second_bias: as in `describe_patches`.
        thin, gate, gate_bias: of the patch attention, as in `_gates`.
        out: filled.
    """
    features, gates = np.empty((len(centres), FEATURES), np.float32), np.empty((len(centres), FEATURES), np.float32)
    describe_patches(image, centres, scale, official, first, first_bias, second, second_bias, features)
    _gates(features, thin, gate, gate_bias, np.empty(FEATURES, np.int32), gates)
    seen, weight = features.reshape(-1), gates.reshape(-1)
    for i in range(len(seen)):
        out[i] = seen[i] * weight[i]


@compiled_sums
def _add_products(x: np.ndarray, weight: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> None:
    """Add x (n, I) times weight (I, U) to the given rows (n,) of sums (A, U)."""
    for i in range(len(weight)):
        row = weight[i]
        for line in range(len(rows)):
            value, total = x[line, i], sums[rows[line]]
            for u in range(len(total)):
                total[u] += value * row[u]


@compiled_sums
def _products(weight: np.ndarray, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n,) with weight (n, U) times x (U,) plus bias (n,)."""
    for k in range(len(out)):
        row, total = weight[k], ZERO
        for u in range(len(x)):
            total += row[u] * x[u]
        out[k] = total + bias[k]


@compiled_sums
def _new_state(sums: np.ndarray, widen: np.ndarray, bias: np.ndarray, bits: np.ndarray, state: np.ndarray) -> None:
    """Fill state (U,) with the hyperbolic tangent of the threads' sums (K, W) and the hidden layer's bias (U,).

    W is U and `widen` is empty, or the sums go through `widen` (U, W). `bits` (U,) int32 is room.
    """
    total = sums[0].copy()
    for part in range(1, len(sums)):
        for w in range(len(total)):
            total[w] += sums[part, w]
    if len(widen):
        _products(widen, total, bias, state)
    else:
        for u in range(len(state)):
            state[u] = total[u] + bias[u]
    for u in range(len(state)):
        state[u] *= TWO
    _exp(state, bits, bits.view(np.float32))
    for u in range(len(state)):  # tanh(x) = 1 - 2 / (exp(2 x) + 1)
        state[u] = ONE - TWO / (state[u] + ONE)


@compiled
def _next_group(counters: np.ndarray, t: int) -> int:
    """Return the number of the next piece of work in iteration t that nobody has begun."""
    return atomic_add(counters, 2 * t * APART, 1)


@compiled
def _finished(counters: np.ndarray, t: int) -> None:
    """Report that a piece of work in iteration t is done, its sums written."""
    atomic_add(counters, (2 * t + 1) * APART, 1)


@compiled
def _wait(counters: np.ndarray, t: int, groups: int) -> None:
    """Return when all pieces of iteration t are done, whoever did them."""
    looks = 0
    while atomic_add(counters, (2 * t + 1) * APART, 0) < groups:
        looks += 1
        if looks > PATIENCE:
            let_others_run()


@compiled
def cascade_share(
    levels: tuple[np.ndarray, ...],
    factors: np.ndarray,
    scale: np.ndarray,
    official: bool,
    weights: tuple[tuple[np.ndarray, ...], ...],
    indices: tuple[np.ndarray, ...],
    start: np.ndarray,
    exit_below: np.ndarray,
    counters: np.ndarray,
    sums: np.ndarray,
    thread: int,
    points: np.ndarray,
    errors: np.ndarray,
    iterations: np.ndarray,
) -> int:
    """Take a thread's part in running the cascade; return the number of iterations that some face took.

    Whoever is free takes the next few patches, so a thread that comes late or is held up holds up no other. What
    follows from an iteration's sums each thread computes for itself: it is little, and nobody waits for it.

    Args:
        levels: T arrays (A, H, 3 W), of the level that each iteration looks at.
        factors: (T,) crop pixels in a pixel of each level.
        scale: (A,) factors of the levels' values.
        official: as in `describe_patches`.
        weights: T arrays each: first and second convolution with their biases; the patch attention's first factor, or
            an empty one, its (second) matrix and bias; at `WIDEST` the layer (M F + U, W) that the features meet,
            input by input; the matrix (U, W) after it, or an empty one; the hidden layer's bias; output and its bias.
        indices: T arrays (M,) of the landmarks that get a patch.
        start: (A, N, 2) row, column, crop pixels.
        exit_below: (T,) predicted error under which a face leaves.
        counters: (2 T APART,) int64, zero: what was begun and what is done.
        sums: (T, threads, A, W), zero: each thread's sums over inputs of the widest layer.
        thread: number of this thread; the first one fills what follows.
        points: (T, A, N, 2) row, column, crop pixels, after each iteration; a face that left keeps its last ones.
        errors: (T, A) predicted errors, likewise.
        iterations: (A,) how many iterations a face took.
    """
    first, first_bias, second, second_bias, thin, gate, gate_bias = weights[:7]
    hidden, widen, hidden_bias, output, output_bias = weights[7:]
    faces, units, count = len(start), len(hidden_bias[0]), start.shape[1]
    state, bits = np.zeros((faces, units), np.float32), np.empty(units, np.int32)
    moved, answer = np.zeros_like(start), np.empty(2 * count + 1, np.float32)
    alive = np.arange(faces)
    for t in range(len(factors)):
        patches = len(indices[t])
        groups = (patches + GROUP - 1) // GROUP
        gated = np.empty((len(alive), GROUP * FEATURES), np.float32)
        centres = np.empty((GROUP, 2), np.float32)
        part = sums[t, thread]
        one, two = flat_weights(first[t]), flat_weights(second[t])
        while True:
            group = _next_group(counters, t)
            if group > groups:
                break
            if group == 0:  # the former state's inputs come last in memory
                if t > 0:
                    _add_products(state[alive], hidden[t][patches * FEATURES :], alive, part)
                _finished(counters, t)
                continue
            begin, end = (group - 1) * GROUP, min(group * GROUP, patches)
            n = end - begin
            for line, a in enumerate(alive):
                for m in range(n):
                    landmark = indices[t][begin + m]
                    centres[m] = start[a, landmark] / factors[t] + moved[a, landmark]
                _gated_features(
                    levels[t][a], centres[:n], scale[a], official, one, first_bias[t], two, second_bias[t], thin[t],
                    gate[t], gate_bias[t], gated[line],
                )  # fmt: skip
            _add_products(gated, hidden[t][begin * FEATURES : end * FEATURES], alive, part)
            _finished(counters, t)
        if t + 1 == len(factors) and thread:
            break  # nothing follows, and the first thread writes
        _wait(counters, t, groups + 1)
        stay = np.ones(faces, np.bool_)
        for a in alive:
            _new_state(sums[t, :, a], widen[t], hidden_bias[t], bits, state[a])
            _products(output[t], state[a], output_bias[t], answer)
            moved[a] += answer[:-1].reshape(count, 2)
            stay[a] = not answer[-1] < exit_below[t]  # NaN never exits early
            if thread == 0:
                errors[t:, a] = answer[-1]
                points[t, a] = start[a] + factors[t] * moved[a]
                points[t + 1 :, a] = points[t, a]
                iterations[a] = t + 1
            if t + 1 < len(factors):
                moved[a] *= factors[t] / factors[t + 1]
        alive = alive[stay[alive]]
        if len(alive) == 0:
            return t + 1
    return len(factors)
