"""The formulas of the papers as loops in float64 over heads, queries and keys. Shares no code with the rest of posx.

Inputs are numbers or tensors, converted to float64. ``q``, ``k`` and ``v`` are [B, H, T, D] and ``x`` [B, T, C] is the
layer's input; heads, queries, keys and distances d = i − j are counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Addend = Callable[[int, int, int, int], float]  # of sequence, head, query and key
Numbers = Sequence[float]


def loops(sequences: int, heads: int, queries: int, first: int = 0) -> Iterator[tuple[int, int, int]]:
    """All (sequence, head, query), from query ``first`` on."""
    for b in range(sequences):
        for h in range(heads):
            for i in range(first, queries):
                yield b, h, i


# ---------------------------------------------------------------- attention


def logits_of(q: Tensor, k: Tensor, b: int, h: int, i: int) -> list[float]:
    """q_i·k_j / √D for all j ≤ i."""
    products: list[float] = (k[b, h, : i + 1].double() @ q[b, h, i].double()).tolist()
    return [product / math.sqrt(q.shape[-1]) for product in products]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    addend: Addend = lambda b, h, i, j: 0.0,
    scale: Addend | None = None,
    value_addend: Callable[[int, int], Tensor] | None = None,
    last: int | None = None,
) -> Tensor:
    """Σ_j softmax_j(scale · (q·k / √D + addend)) (v_j + value_addend_ij) over j ≤ i, for the ``last`` queries only."""
    first = v.shape[2] - (last or v.shape[2])
    out = torch.zeros(v.shape, dtype=torch.float64)
    for b, h, i in loops(*v.shape[:3], first=first):
        z = [z + addend(b, h, i, j) for j, z in enumerate(logits_of(q, k, b, h, i))]
        if scale is not None:
            z = [scale(b, h, i, j) * logit for j, logit in enumerate(z)]
        values = v[b, h, : i + 1].double()
        if value_addend is not None:
            values = values + torch.stack([value_addend(i, j).double() for j in range(i + 1)])
        out[b, h, i] = torch.softmax(torch.tensor(z, dtype=torch.float64), 0) @ values
    return out[:, :, first:]


def moved(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    frequencies: Numbers,
    distance: Callable[[int, int], float | None],
    addend: Callable[[int, int, int, float], float] = lambda b, h, i, d: 0.0,
    fading: Callable[[int, float], float] = lambda n, d: 1.0,
    scale: float = 1.0,
    value_addend: Callable[[float], Tensor] | None = None,
    last: int | None = None,
) -> Tensor:
    """Attention in which query i sees key j at ``distance(i, j)``, or not at all (None).

    Pair n of a head is rotated by d·θ_n and multiplied by ``fading(n, d)``; ``addend`` (of sequence, head, query and d)
    is added to the products, and ``scale`` multiplies the sum. ``value_addend(d)`` [D] is added to a value.
    """
    first = v.shape[2] - (last or v.shape[2])
    half, out = len(frequencies), torch.zeros(v.shape, dtype=torch.float64)
    theta = torch.tensor(list(frequencies), dtype=torch.float64)
    seen: dict[int, list[tuple[int, float]]] = {}
    for b, h, i in loops(*v.shape[:3], first=first):
        if i not in seen:
            apart = ((j, distance(i, j)) for j in range(i + 1))
            seen[i] = [(j, d) for j, d in apart if d is not None]
        at, ds = [j for j, _ in seen[i]], [d for _, d in seen[i]]
        query, keys = q[b, h, i].double(), k[b, h, at].double()
        angles = torch.tensor(ds, dtype=torch.float64)[:, None] * theta
        faded = torch.tensor([[fading(n, d) for n in range(half)] for d in ds], dtype=torch.float64)
        one, other, a, c = query[:half], query[half : 2 * half], keys[:, :half], keys[:, half : 2 * half]
        turned = (one * a + other * c) * angles.cos() + (one * c - other * a) * angles.sin()
        z = ((turned * faded).sum(1) + keys[:, 2 * half :] @ query[2 * half :]) / math.sqrt(q.shape[-1])
        z += torch.tensor([addend(b, h, i, d) for d in ds], dtype=torch.float64)
        values = v[b, h, at].double()
        if value_addend is not None:
            values = values + torch.stack([value_addend(d).double() for d in ds])
        out[b, h, i] = torch.softmax(scale * z, 0) @ values
    return out[:, :, first:]


# ---------------------------------------------------------------- position vectors


def sinusoids(positions: Numbers, width: int, base: float = 10000.0) -> Tensor:
    """PE(p, 2k) = sin(p / base^(2k/width)), PE(p, 2k + 1) = cos of the same (1706.03762, section 3.5)."""
    table = torch.zeros(len(positions), width, dtype=torch.float64)
    for row, p in enumerate(positions):
        for column in range(width):
            angle = p / base ** ((column - column % 2) / width)
            table[row, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table


# ---------------------------------------------------------------- rotations


def rotated(x: Tensor, positions: Numbers, frequencies: Numbers, interleaved: bool = False) -> Tensor:
    """x [B, H, T, D] with pair k rotated by p·θ_k: dimensions (k, k + R/2) or (2k, 2k + 1) (2104.09864, 3.2.2)."""
    out, half = x.double().clone(), len(frequencies)
    for row, p in enumerate(positions):
        for n, theta in enumerate(frequencies):
            one, other = (2 * n, 2 * n + 1) if interleaved else (n, n + half)
            a, b = x[..., row, one].double(), x[..., row, other].double()
            out[..., row, one] = a * math.cos(p * theta) - b * math.sin(p * theta)
            out[..., row, other] = a * math.sin(p * theta) + b * math.cos(p * theta)
    return out


def frequencies(rotated: int, base: float = 10000.0) -> list[float]:
    """θ_k = base^(−2k/R) for a head with R rotated dimensions."""
    return [base ** (-2 * n / rotated) for n in range(rotated // 2)]


def p_frequencies(rotated: int, kept: float, base: float = 10000.0) -> list[float]:
    """The first ⌊kept · R/2⌋ frequencies, then zeros (2410.06205, section 6)."""
    return [
        theta if n < math.floor(kept * (rotated // 2)) else 0.0 for n, theta in enumerate(frequencies(rotated, base))
    ]


def xpos(x: Tensor, positions: Numbers, base: float, scale_base: float, sign: int) -> Tensor:
    """x [..., T, D], interleaved, rotated and multiplied by ζ_k^(± p / scale_base) (2212.10554, section 3.2)."""
    width = x.shape[-1]
    out = rotated(x, positions, frequencies(width, base), interleaved=True)
    for row, p in enumerate(positions):
        for n in range(width // 2):
            zeta = (2 * n + 0.4 * width) / (1.4 * width)
            out[..., row, 2 * n : 2 * n + 2] *= zeta ** (sign * p / scale_base)
    return out


# ---------------------------------------------------------------- biases by distance


def alibi_slopes(n_heads: int) -> list[float]:
    """2^(−8h/H). If H is not a power of two: the slopes of the next lower power, then every second slope of the next
    higher one (2108.12409, section 3 and its released code)."""
    whole = 2 ** int(math.log2(n_heads))
    lower = [2 ** (-8 * (h + 1) / whole) for h in range(whole)]
    return lower + [2 ** (-8 * (h + 1) / (2 * whole)) for h in range(0, 2 * whole, 2)][: n_heads - whole]


def t5_bucket(distance: float, buckets: int, max_distance: int) -> int:
    """Half of the buckets hold one distance each; the others grow geometrically up to max_distance (1910.10683)."""
    exact = buckets // 2
    if distance < exact:
        return max(0, int(distance))
    return min(
        buckets - 1, exact + int(math.log(distance / exact) / math.log(max_distance / exact) * (buckets - exact))
    )


def kerple(kernel: str, r1: float, r2: float, distance: float) -> float:
    """−r1·ln(1 + r2·d) or −r1·d^r2, with r1, r2 ≥ 0.01 and a power of at most 2 (2205.09921, section 4)."""
    a, b = max(r1, 0.01), max(r2, 0.01)
    return -a * math.log(1 + b * distance) if kernel == "log" else -a * distance ** min(b, 2.0)


def sandwich(h: int, n_heads: int, distance: float, width: int, base: float = 10000.0) -> float:
    """Σ_k cos(d / base^(2k/d̄)), k = 1 .. d̄/2, divided by 8h/H with heads from 1 (2212.10356, section 4)."""
    total = sum(math.cos(distance / base ** (2 * n / width)) for n in range(1, width // 2 + 1))
    return total / (8 * (h + 1) / n_heads)


def fire(i: float, j: float, c: float, end: float, first: Sequence[Numbers], inner: Numbers, outer: Numbers) -> float:
    """f(ln(|c·d| + 1) / (ln(|c|·max(|T|, i) + 1) + 1e-6)) for one head (2310.04418, section 3). ``first`` [hidden][1]
    and ``inner``: weights and biases of the hidden units; ``outer``: output weights of the head."""
    share = math.log(abs(c * (i - j)) + 1) / (math.log(abs(c) * max(abs(end), i) + 1) + 1e-6)
    return sum(w * max(0.0, a[0] * share + b) for w, a, b in zip(outer, first, inner, strict=True))


# ---------------------------------------------------------------- biases by content


def shaw(q: Tensor, table: Tensor) -> Addend:
    """q_i·a_{min(d, clip)} / √D with vectors a [clip + 1, D] (1803.02155, equations 4 and 5)."""
    q, table = q.double(), table.double()
    clip, root = len(table) - 1, math.sqrt(q.shape[-1])
    return lambda b, h, i, j: float(q[b, h, i] @ table[min(i - j, clip)]) / root


def transformer_xl(q: Tensor, k: Tensor, w: Tensor, u: Tensor, v: Tensor, base: float = 10000.0) -> Addend:
    """(u·k_j + (q_i + v)·W r_d) / √D, r_d sines and then cosines of d; W [H·D, C], u and v [H, D] (1901.02860, 3.3)."""
    q, k, w, u, v = (x.double() for x in (q, k, w, u, v))
    width, root = q.shape[-1], math.sqrt(q.shape[-1])
    keys = []
    for d in range(q.shape[2]):
        angles = [d * theta for theta in frequencies(w.shape[1], base)]
        r = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)
        keys.append((w @ r).unflatten(0, (-1, width)))
    return lambda b, h, i, j: float(u[h] @ k[b, h, j] + (q[b, h, i] + v[h]) @ keys[i - j][h]) / root


def forgetting(x: Tensor, weight: Tensor, offset: Tensor) -> Addend:
    """Σ_{l=j+1..i} ln σ(w·x_l + b), w [H, C] and b [H] (2503.02130, section 3.1)."""
    return _gates(x, weight, offset, lambda z: math.log(1 / (1 + math.exp(-z))))


def cable(x: Tensor, weight: Tensor, offset: Tensor) -> Addend:
    """−Σ_{l=j+1..i} softplus(w·x_l + b) (2503.08067)."""
    return _gates(x, weight, offset, lambda z: -math.log(1 + math.exp(z)))


def _gates(x: Tensor, weight: Tensor, offset: Tensor, gate: Callable[[float], float]) -> Addend:
    logits = torch.einsum("btc,hc->bht", x.double(), weight.double()) + offset.double()[:, None]
    sums: dict[tuple[int, int, int], list[float]] = {}

    def addend(b: int, h: int, i: int, j: int) -> float:
        if (b, h, i) not in sums:  # cumulative sums by distance, starting at the query itself
            sums[b, h, i] = [0.0]
            for z in reversed(logits[b, h, 1 : i + 1].tolist()):
                sums[b, h, i].append(sums[b, h, i][-1] + gate(z))
        return sums[b, h, i][i - j]

    return addend


# ---------------------------------------------------------------- other logits, other weights


def cope(q: Tensor, k: Tensor, v: Tensor, table: Tensor, last: int | None = None) -> Tensor:
    """Adds q_i·e[p_ij] with p_ij = min(p_max, Σ_{m=j..i} σ(z_im)), e [p_max + 1, D] interpolated between its rows
    (2405.18719, section 4)."""
    rows, p_max = table.double(), len(table) - 1
    gates: dict[tuple[int, int, int], list[float]] = {}

    def addend(b: int, h: int, i: int, j: int) -> float:
        if (b, h, i) not in gates:
            gates[b, h, i] = [1 / (1 + math.exp(-z)) for z in logits_of(q, k, b, h, i)]
        p = min(p_max, sum(gates[b, h, i][j:]))
        row = (math.floor(p) + 1 - p) * rows[math.floor(p)] + (p - math.floor(p)) * rows[math.ceil(p)]
        return float(q[b, h, i].double() @ row)

    return attention(q, k, v, addend, last=last)


def dape(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Addend,
    first: Tensor,
    offset: Tensor,
    second: Tensor,
    last: int | None = None,
) -> Tensor:
    """A + B + f([A ; B]), where f takes the logits and biases of all heads at a pair: weights [hidden, 2 H], a leaky
    ReLU, then [H, hidden] (2405.14722, section 3)."""
    n_heads = q.shape[1]
    first, offset, second = first.double(), offset.double(), second.double()
    seen: dict[tuple[int, int], list[list[float]]] = {}

    def addend(b: int, h: int, i: int, j: int) -> float:
        if (b, i) not in seen:
            seen[b, i] = [logits_of(q, k, b, other, i) for other in range(n_heads)]
        inputs = [seen[b, i][other][j] for other in range(n_heads)] + [bias(b, other, i, j) for other in range(n_heads)]
        units = first @ torch.tensor(inputs, dtype=torch.float64) + offset
        return bias(b, h, i, j) + sum(
            float(w) * max(float(u), 0.01 * float(u)) for w, u in zip(second[h], units, strict=True)
        )

    return attention(q, k, v, addend, last=last)


def stick_breaking(q: Tensor, k: Tensor, v: Tensor, last: int | None = None) -> Tensor:
    """A_ij = σ(z_ij)·Π_{j<m<i} (1 − σ(z_im)), j < i (2410.17980, equation 2)."""
    first, out = v.shape[2] - (last or v.shape[2]), torch.zeros(v.shape, dtype=torch.float64)
    for b, h, i in loops(*v.shape[:3], first=first):
        left, z = 1.0, logits_of(q, k, b, h, i)
        for j in range(i - 1, -1, -1):
            share = 1 / (1 + math.exp(-z[j]))
            out[b, h, i] += share * left * v[b, h, j].double()
            left *= 1 - share
    return out[:, :, first:]


def linear_rope(q: Tensor, k: Tensor, v: Tensor, base: float = 10000.0, last: int | None = None) -> Tensor:
    """Σ_j (R_i φ(q_i))·(R_j φ(k_j)) v_j / Σ_j φ(q_i)·φ(k_j), φ = elu + 1 (2104.09864, equation 19)."""
    phi_q, phi_k = (torch.where(x > 0, x.double() + 1, x.double().exp()) for x in (q, k))
    theta, out = frequencies(q.shape[-1], base), torch.zeros(v.shape, dtype=torch.float64)
    turned_q, turned_k = (rotated(x, range(x.shape[2]), theta) for x in (phi_q, phi_k))
    first = v.shape[2] - (last or v.shape[2])
    for b, h, i in loops(*v.shape[:3], first=first):
        below = 0.0
        for j in range(i + 1):
            out[b, h, i] += float(turned_q[b, h, i] @ turned_k[b, h, j]) * v[b, h, j].double()
            below += float(phi_q[b, h, i] @ phi_k[b, h, j])
        out[b, h, i] /= below
    return out[:, :, first:]
