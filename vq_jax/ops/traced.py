"""Numbers that are known when a function is compiled, or given to it."""

import jax


def differs(value: float | jax.Array, neutral: float) -> bool:
    """Whether a number is another than the one that leaves something out; one not known counts as such."""
    return isinstance(value, jax.core.Tracer) or bool(value != neutral)
