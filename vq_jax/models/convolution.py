"""Stand-in until the fast one is there."""
import functools
from flax import linen as nn
def Conv(features, kernel_size=(3,3), strides=1, dtype='float32'): return nn.Conv(features, kernel_size, (strides,strides), dtype=dtype)
def ConvTranspose(features, kernel_size=(3,3), strides=1, dtype='float32'): return nn.ConvTranspose(features, kernel_size, (strides,strides), dtype=dtype)
