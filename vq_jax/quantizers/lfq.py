"""LFQ: lookup-free quantization."""

from vq_jax.quantizers.binary import BinaryQuantizer


class LookupFreeQuantizer(BinaryQuantizer):
    """LFQ, the quantizer of Yu et al. 2023 (MAGVIT-v2, arXiv:2310.05737), section 3.1.

    Each number becomes its sign, 1 or -1, which is a bit of the code. The entropy of the mean is over all
    codes, as in the paper and in Open-MAGVIT2 (Luo et al. 2024, arXiv:2409.04410; `bits=18`), whose prior
    learns a code in two groups of bits (`group_bits=9, entropy_bits=18`).

    Attributes:
        bits: how many numbers there are; 2^bits is the number of codes.
        commitment: weight of the commitment loss, `||z - sg(sign(z))||^2`.
    """

    @property
    def size(self) -> float:
        """1."""
        return 1.0
