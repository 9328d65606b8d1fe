"""The U-Net of `vq_jax.models.unet` in PyTorch: the peer that benchmarks of diffusion measure against.

The same layers, in eager mode with Adam and a moving average of the parameters. Not used by the project
itself.
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch_vqgan import Down, Up, normal


class Block(nn.Module):
    """Twice: group normalisation, swish, 3x3 convolution; the second one as the time says."""

    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.normal1, self.conv1 = normal(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.normal2, self.conv2 = normal(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.change = nn.Linear(width, 2 * outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, given):
        """[b c h w] to [b d h w]."""
        h = self.conv1(F.silu(self.normal1(x)))
        scale, shift = self.change(given)[:, :, None, None].chunk(2, 1)
        return self.short(x) + self.conv2(F.silu(self.normal2(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over all places, added to the input."""

    def __init__(self, channels, head):
        super().__init__()
        self.normal, self.heads = normal(channels), channels // head
        self.joint, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """[b c h w] to the same."""
        b, c, h, w = x.shape
        q, k, v = self.joint(self.normal(x)).reshape(b, 3, self.heads, -1, h * w).transpose(3, 4).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.transpose(2, 3).reshape(b, c, h, w))


class UNet(nn.Module):
    """Noisy pictures, times and classes to predictions."""

    def __init__(self, sizes, channels, num_classes):
        super().__init__()
        self.sizes = s = sizes
        width, last = 4 * s.channels, len(s.multipliers) - 1
        self.time = nn.Sequential(nn.Linear(s.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width)
        self.first = nn.Conv2d(channels * s.patch**2, s.channels, 3, padding=1)
        now, passed = s.channels, [s.channels]

        def level_blocks(inputs, level):
            outputs = s.channels * s.multipliers[level]
            attention = Attention(outputs, s.head_channels) if level in s.attention_levels else nn.Identity()
            return nn.ModuleList([Block(inputs, outputs, width), attention]), outputs

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(last + 1):
            for _ in range(s.residual_blocks):
                layers, now = level_blocks(now, level)
                self.down.append(layers)
                passed.append(now)
            if level < last:
                self.down.append(Down(now))
                passed.append(now)
        self.middle = nn.ModuleList(
            [Block(now, now, width), Attention(now, s.head_channels), Block(now, now, width)]
        )
        for level in reversed(range(last + 1)):
            for _ in range(s.residual_blocks + 1):
                layers, now = level_blocks(now + passed.pop(), level)
                self.up.append(layers)
            if level:
                self.up.append(Up(now))
        self.last = nn.Sequential(normal(now), nn.SiLU(), nn.Conv2d(now, channels * s.patch**2, 3, padding=1))

    def forward(self, x, t, labels):
        """[b c h w], times [b] and classes [b] to [b c h w]."""
        s = self.sizes
        speeds = torch.exp(
            -math.log(10_000) * torch.arange(s.channels // 2, device=x.device) / (s.channels // 2)
        )
        angles = 1000 * t[:, None] * speeds
        given = F.silu(self.time(torch.cat([angles.cos(), angles.sin()], 1)) + self.label(labels))
        x = self.first(F.pixel_unshuffle(x, s.patch))
        passed = [x]
        for layers in self.down:
            x = layers(x) if isinstance(layers, Down) else layers[1](layers[0](x, given))
            passed.append(x)
        x = self.middle[2](self.middle[1](self.middle[0](x, given)), given)
        for layers in self.up:
            if isinstance(layers, Up):
                x = layers(x)
            else:
                x = layers[1](layers[0](torch.cat([x, passed.pop()], 1), given))
        return F.pixel_shuffle(self.last(x), s.patch)


def make(config, channels, device, num_classes=10):
    """The network of a config of the task diffusion, whose backbone is the U-Net."""
    torch.manual_seed(0)
    return UNet(config.unet, channels, num_classes).to(device)


def scales(t):
    """Alpha and sigma of the cosine schedule at times [b], for [b c h w]."""
    angle = (t + 0.008) / 1.008 * math.pi / 2
    alpha = (angle.cos() / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(0, 1)[:, None, None, None]
    return alpha, (1 - alpha**2).clamp(min=1e-6).sqrt()


def make_step(config, image_channels, device, dtype):
    """A training step `images uint8 [b h w c] tensor -> loss`, of the prediction of v."""
    model = make(config, image_channels, device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.learning_rate)
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    def step(images):
        x0 = images.permute(0, 3, 1, 2).float() * (2 / 255) - 1
        t, noise = torch.rand(len(x0), device=device), torch.randn_like(x0)
        labels = torch.zeros(len(x0), dtype=torch.long, device=device)
        alpha, sigma = scales(t)
        with autocast:
            loss = (
                (model(alpha * x0 + sigma * noise, t, labels) - (alpha * noise - sigma * x0)).square().mean()
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.01)
        return loss.detach()

    return step


def make_sampler(config, shape, n, device, dtype):
    """A function `steps -> pictures` that draws n pictures of a shape [h w c] by DDIM."""
    model = make(config, shape[-1], device).eval()
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    @torch.no_grad()
    def sample(steps):
        h, w, c = shape
        x = torch.randn(n, c, h, w, device=device)
        labels = torch.zeros(n, dtype=torch.long, device=device)
        times = torch.linspace(1, 0, steps + 1, device=device)
        for t, s in itertools.pairwise(times):
            alpha, sigma = scales(t.expand(n))
            with autocast:
                v = model(x, t.expand(n), labels).float()
            x0 = (alpha * x - sigma * v).clamp(-1, 1)
            noise = (x - alpha * x0) / sigma
            alpha, sigma = scales(s.expand(n))
            x = alpha * x0 + sigma * noise
        return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()

    return sample
