"""A public U-Net in PyTorch, `UNet2DModel` of diffusers: what benchmarks of diffusion measure against.

It has the layers of `vq_jax.models.unet`, but for the number of groups that are normalised. Trained in eager
mode with Adam and a moving average of the parameters, by the cosine schedule and the prediction of v. Not
used by the project itself.
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import nn


class UNet(nn.Module):
    """Noisy images, times and classes to predictions."""

    def __init__(self, sizes, channels, num_classes):
        super().__init__()
        self.patch = sizes.patch
        attended = [level in sizes.attention_resolutions for level in range(len(sizes.multipliers))]
        self.network = UNet2DModel(
            in_channels=channels * sizes.patch**2,
            out_channels=channels * sizes.patch**2,
            block_out_channels=[sizes.channels * multiplier for multiplier in sizes.multipliers],
            layers_per_block=sizes.residual_blocks,
            down_block_types=['AttnDownBlock2D' if a else 'DownBlock2D' for a in attended],
            up_block_types=['AttnUpBlock2D' if a else 'UpBlock2D' for a in reversed(attended)],
            attention_head_dim=sizes.head_channels,
            attn_norm_num_groups=32,
            resnet_time_scale_shift='scale_shift',
            num_class_embeds=num_classes + 1,
            dropout=sizes.dropout,
        )

    def forward(self, x, t, labels):
        """[b c h w], times from 0 to 1 [b] and classes [b] to [b c h w]."""
        predictions = self.network(F.pixel_unshuffle(x, self.patch), 1000 * t, labels).sample
        return F.pixel_shuffle(predictions, self.patch)


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
    """A function `steps -> images` that draws n images of a shape [h w c] by DDIM."""
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
