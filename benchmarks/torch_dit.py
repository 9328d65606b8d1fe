"""The diffusion transformer of `vq_jax.models.dit` in PyTorch: a peer that benchmarks measure against.

The same layers (Peebles and Xie 2023, adaLN-Zero), conditioned on the time and the class. Not used by the
project itself.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch_diffusion import sampler, training_step


def sinusoids(t, width):
    """Numbers [n] as cosines and sines of many wavelengths [n width]."""
    half = width // 2
    speeds = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * speeds
    return torch.cat([angles.cos(), angles.sin()], -1)


def normalised(x):
    """Vectors [... d] with mean 0 and variance 1, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-6)


class Block(nn.Module):
    """Attention, then connected layers, each normalised, scaled, shifted and gated by a vector."""

    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.heads = heads
        self.changes = nn.Linear(width, 6 * width)
        self.qkv, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)
        nn.init.zeros_(self.changes.weight)
        nn.init.zeros_(self.changes.bias)

    def forward(self, x, vector):
        """Tokens [b n d] and a vector [b d] to tokens."""
        b, n, d = x.shape
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.changes(vector)[:, None].chunk(6, -1)
        qkv = self.qkv(normalised(x) * (1 + scale) + shift).reshape(b, n, 3, self.heads, -1)
        seen = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + gate * self.attended(seen.transpose(1, 2).reshape(b, n, d))
        hidden = F.gelu(self.widen(normalised(x) * (1 + mlp_scale) + mlp_shift), approximate='tanh')
        return x + mlp_gate * self.narrow(hidden)


class DiT(nn.Module):
    """Noisy images, times and classes to predictions."""

    def __init__(self, sizes, channels, side, num_classes):
        super().__init__()
        self.patch, features = sizes.patch, channels * sizes.patch**2
        self.side = side // sizes.patch
        self.read = nn.Linear(features, sizes.width)
        rows, columns = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing='ij')
        places = [sinusoids(axis.flatten(), sizes.width // 2) for axis in (rows, columns)]
        self.register_buffer('places', torch.cat(places, -1))
        self.time = nn.Sequential(nn.Linear(256, sizes.width), nn.SiLU(), nn.Linear(sizes.width, sizes.width))
        self.label = nn.Embedding(num_classes + 1, sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.mlp_ratio) for _ in range(sizes.depth)
        )
        self.changes, self.write = nn.Linear(sizes.width, 2 * sizes.width), nn.Linear(sizes.width, features)
        for layer in (self.changes, self.write):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, t, labels):
        """[b c h w], times from 0 to 1 [b] and classes [b] to [b c h w]."""
        patches = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)
        x = self.read(patches) + self.places
        vector = F.silu(self.time(sinusoids(1000 * t, 256)) + self.label(labels))
        for block in self.blocks:
            x = block(x, vector)
        shift, scale = self.changes(vector)[:, None].chunk(2, -1)
        x = self.write(normalised(x) * (1 + scale) + shift)
        return F.pixel_shuffle(x.transpose(1, 2).unflatten(2, (self.side, self.side)), self.patch)


def make(config, channels, num_classes=10):
    """The network of a config of the task diffusion, whose backbone is the DiT."""
    torch.manual_seed(0)
    return DiT(config.dit, channels, config.data.image_size, num_classes)


def make_step(config, image_channels, device, dtype, prepare):
    """See `torch_diffusion.training_step`."""
    return training_step(make(config, image_channels), config, device, dtype, prepare)


def make_sampler(config, shape, n, device, dtype):
    """See `torch_diffusion.sampler`."""
    return sampler(make(config, shape[-1]).to(device), shape, n, device, dtype)
