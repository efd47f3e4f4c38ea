"""The constants of scoring/src/kernel/elementary.rs: near-minimax polynomials, fitted here and rounded to f32.

Lawson's algorithm: least squares over a dense grid whose weights grow where the error is largest, until the error is level.
Needs numpy only. Run it and compare what it prints with the arrays of that file.
"""

import math

import numpy as np


def minimax(function, degree, low, high, weight=lambda x: 1.0 / np.abs(x), rounds=200):
    """Coefficients (constant first) of the polynomial nearest to `function` on [low, high], error times weight(value)."""
    middle, half = (low + high) / 2, (high - low) / 2
    x = middle + half * np.cos(np.linspace(0, np.pi, 4001))
    y = np.array([function(v) for v in x])
    scale = weight(y)
    power = np.vander((x - middle) / half, degree + 1, increasing=True)
    share = np.full(len(x), 1.0 / len(x))
    for _ in range(rounds):
        root = np.sqrt(share) * scale
        fitted = np.linalg.lstsq(power * root[:, None], y * root, rcond=None)[0]
        error = np.abs(power @ fitted - y) * scale
        share = share * (error + 1e-30)
        share /= share.sum()
    shifted = np.polynomial.Polynomial(fitted)(np.polynomial.Polynomial([-middle / half, 1 / half]))
    return shifted.coef, error.max()


def log1p_rest(f):
    """(log(1 + f) - f + f*f/2) / f^3, by its series near zero."""
    if abs(f) < 0.05:
        return sum((-1) ** n * f**n / (n + 3) for n in range(24))
    return (math.log1p(f) - f + f * f / 2) / f**3


def exp_rest(r):
    """(exp(r) - 1 - r) / r^2, by its series."""
    return sum(r**n / math.factorial(n + 2) for n in range(20))


def erf_rest(s):
    """erf(x) / x - 1 in s = x * x."""
    x = math.sqrt(s)
    return math.erf(x) / x - 1 if x > 1e-4 else 2 / math.sqrt(math.pi) * (1 - s / 3) - 1


def erfc_exponent(x):
    """-log(erfc(x)) / x."""
    return -math.log(math.erfc(x)) / x


def show(name, fitted):
    coefficients, error = fitted
    print(f"{name}: error {error:.2e}")
    print("    [" + ", ".join(f"{np.float32(c):.9e}" for c in coefficients) + "]")


if __name__ == "__main__":
    show("EXP (exp(r) = 1 + r + r*r*p(r))", minimax(exp_rest, 4, -0.3470, 0.3470))
    show("LOG (log(1+f) = f - f*f/2 + f^3*p(f))", minimax(log1p_rest, 8, math.sqrt(0.5) - 1, math.sqrt(2) - 1))
    show("ERF_NEAR (erf(x) = x + x*p(x*x))", minimax(erf_rest, 6, 0.0, 1.0, weight=lambda y: 1.0 / (1.0 + y)))
    show("ERF_FAR (erf(x) = 1 - exp(-x*p(x)))", minimax(erfc_exponent, 8, 0.9, 4.0))
