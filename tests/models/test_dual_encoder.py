"""The scale of the dual encoder."""

import math

import jax
import pytest

from vq_jax.models.classifier import Classifier
from vq_jax.models.dual_encoder import DualEncoder
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.text_tokenizers import ByteTokenizer

MODEL = DualEncoder(of_examples=Classifier(), of_texts=TextEncoder(ByteTokenizer(), length=2))


@pytest.mark.parametrize('log_scale', [-1.0, 4.5, 4.7, 10.0, 1000.0])
def test_the_scale_is_bounded_and_has_the_gradient_of_exp_at_its_bound(log_scale):
    def scale(log_scale):
        return MODEL.apply({'params': {'log_scale': log_scale}}, method='scale')

    bounded = math.exp(min(log_scale, math.log(100)))
    assert jax.value_and_grad(scale)(log_scale) == pytest.approx((bounded, bounded), rel=1e-6)
