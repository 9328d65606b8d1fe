"""Numbers that are known when a function is compiled, or given to it."""

import jax


def is_known(value: float | jax.Array | None) -> bool:
    """Whether a number can be looked at while the function that uses it is traced."""
    return not isinstance(value, jax.core.Tracer)


def differs(value: float | jax.Array, neutral: float) -> bool:
    """Whether a number is another than the one that leaves something out; one not known counts as such."""
    return not is_known(value) or bool(value != neutral)
