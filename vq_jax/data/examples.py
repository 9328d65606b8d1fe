"""What the pipeline is given of a data set at a time."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Examples:
    """Examples before augmentation.

    Attributes:
      values: [b ...] as the `spec` of the data set says, or, before a random crop, a list of b arrays of
        their own sizes; anything where an example is undecodable.
      labels: int32 [b].
      good: bool [b], False where the example is undecodable.
    """

    values: np.ndarray | list[np.ndarray | None]
    labels: np.ndarray
    good: np.ndarray
