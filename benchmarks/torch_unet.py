"""A public U-Net in PyTorch, `UNet2DModel` of diffusers: what benchmarks of diffusion measure against.

It has the layers of `vq_jax.models.unet`, but for the number of groups that are normalised. Not used by the
project itself.
"""

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import nn
from torch_diffusion import sampler, training_step


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


def make(config, channels, num_classes=10):
    """The network of a config of the task diffusion, whose backbone is the U-Net."""
    torch.manual_seed(0)
    return UNet(config.unet, channels, num_classes)


def make_step(config, image_channels, device, dtype, prepare):
    """See `torch_diffusion.training_step`."""
    return training_step(make(config, image_channels), config, device, dtype, prepare)


def make_sampler(config, shape, n, device, dtype):
    """See `torch_diffusion.sampler`."""
    return sampler(make(config, shape[-1]).to(device), shape, n, device, dtype)
