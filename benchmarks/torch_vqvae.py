"""The VQ-VAE of `vq_jax.models.autoencoder` in PyTorch: a peer that benchmarks measure against.

The same layers, widths, losses and moving-average codebook, with Adam; of images or of video, with VideoGPT's
axial attention or without. Not used by the project itself.
"""

import torch
import torch.nn.functional as F
from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}  # by the axes of the grid
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def normal(channels):
    """Group normalisation with up to 32 groups of four channels or more."""
    groups = next(g for g in range(min(32, channels // 4), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """ReLU, convolution of size 3, ReLU, convolution of size 1, added to the input."""

    def __init__(self, rank, channels, hidden):
        super().__init__()
        self.inner = CONV[rank](channels, hidden, 3, padding=1)
        self.outer = CONV[rank](hidden, channels, 1)

    def forward(self, x):
        """[b c *grid] to [b c *grid]."""
        return x + self.outer(F.relu(self.inner(F.relu(x))))


class AlongAxis(nn.Module):
    """Attention along one axis of a grid."""

    def __init__(self, axis, channels, heads):
        super().__init__()
        self.axis, self.heads = axis, heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)

    def forward(self, x):
        """[b *grid c] to the same."""
        qkv = self.qkv(x).movedim(self.axis, -2)
        lines = qkv.reshape(-1, x.shape[self.axis], 3, self.heads, x.shape[-1] // self.heads)
        seen = F.scaled_dot_product_attention(*lines.permute(2, 0, 3, 1, 4)).transpose(1, 2)
        return self.out(seen.reshape(*qkv.shape[:-1], -1).movedim(-2, self.axis))


class AxialBlock(nn.Module):
    """VideoGPT's: convolutions of size 3 and 1, attention along each axis, summed; added to the input."""

    def __init__(self, rank, channels, hidden, heads):
        super().__init__()
        conv = CONV[rank]
        self.convolutions = nn.Sequential(
            *(normal(channels), nn.ReLU(), conv(channels, hidden, 3, padding=1, bias=False)),
            *(normal(hidden), nn.ReLU(), conv(hidden, channels, 1, bias=False)),
            *(normal(channels), nn.ReLU()),
        )
        self.attention = nn.ModuleList(AlongAxis(axis, channels, heads) for axis in range(1, rank + 1))

    def forward(self, x):
        """[b c *grid] to the same."""
        h = self.convolutions(x).movedim(1, -1)
        return x + sum(along(h) for along in self.attention).movedim(-1, 1)


class Quantizer(nn.Module):
    """A codebook learned by moving average, with perplexity and revival of dead codes."""

    def __init__(self, num_codes, dim, decay, commitment, revive_below):
        super().__init__()
        self.decay, self.commitment, self.revive_below = decay, commitment, revive_below
        self.register_buffer('codebook', torch.randn(num_codes, dim))
        self.register_buffer('sums', self.codebook / num_codes)
        self.register_buffer('shares', torch.full((num_codes,), 1 / num_codes))

    def forward(self, z):
        """[b d *grid] to the same, with the loss."""
        k, z = len(self.codebook), z.movedim(1, -1)
        flat = z.reshape(-1, z.shape[-1])
        with torch.no_grad():
            scores = 0.5 * self.codebook.square().sum(1) - flat @ self.codebook.T
            codes = scores.argmin(1)
            shares = torch.bincount(codes, minlength=k) / len(codes)
            e = self.codebook[codes]
            sums = torch.zeros_like(self.sums).index_add_(0, codes, flat.float()) / len(codes)
            self.shares.lerp_(shares, 1 - self.decay)
            self.sums.lerp_(sums, 1 - self.decay)
            used = shares[:, None] > 0
            safe = torch.where(used, self.shares[:, None], torch.ones_like(self.shares)[:, None])
            self.codebook.copy_(torch.where(used, self.sums / safe, self.codebook))
            dead = self.shares < self.revive_below / k
            rows = flat[torch.randint(len(flat), (k,), device=flat.device)]
            self.codebook.copy_(torch.where(dead[:, None], rows, self.codebook))
            self.sums.copy_(torch.where(dead[:, None], rows / k, self.sums))
            self.shares.masked_fill_(dead, 1 / k)
            perplexity = torch.exp(torch.special.entr(shares).sum())
        loss = self.commitment * (flat - e).square().mean()
        values = flat + (e - flat).detach()
        return values.reshape(z.shape).movedim(-1, 1), loss, perplexity


class VQVAE(nn.Module):
    """Encoder, quantizer and decoder, over a grid of `rank` axes."""

    def __init__(self, rank, image_channels, sizes, quantizer):
        super().__init__()
        conv, transposed, channels = CONV[rank], CONV_TRANSPOSE[rank], sizes.channels

        def residual_stack():
            inside = rank, channels, sizes.residual_channels
            if not sizes.axial_heads:
                return [ResidualBlock(*inside) for _ in range(sizes.residual_blocks)]
            blocks = [AxialBlock(*inside, sizes.axial_heads) for _ in range(sizes.residual_blocks)]
            return [*blocks, normal(channels)]

        encoder = []
        for i in range(sizes.stages):
            width = image_channels if i == 0 else channels
            encoder += [conv(width, channels, 4, 2, 1), nn.ReLU()]
        encoder += [conv(channels, channels, 3, padding=1), *residual_stack(), nn.ReLU()]
        dim = quantizer.codebook.shape[1]
        self.encoder = nn.Sequential(*encoder, conv(channels, dim, 1))
        self.quantizer = quantizer
        decoder = [conv(dim, channels, 3, padding=1), *residual_stack()]
        for i in range(sizes.stages):
            width = image_channels if i == sizes.stages - 1 else channels
            decoder += [nn.ReLU(), transposed(channels, width, 4, 2, 1)]
        self.decoder = nn.Sequential(*decoder)

    def forward(self, x):
        """Examples [b c *grid] in [-1, 1] to reconstructions, loss of the quantizer, perplexity."""
        values, loss, perplexity = self.quantizer(self.encoder(x))
        return self.decoder(values), loss, perplexity


def adam(network, config, **options):
    """Adam at the rate of a section of a config; on GPUs in one kernel."""
    fused = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=fused, **options)


def make_step(config, image_channels, device, dtype, prepare):
    """A training step `images uint8 [b *grid c] tensor -> loss` for a VQ-VAE config of the project.

    `prepare` puts a network on the device, and may compile it.
    """
    torch.manual_seed(0)
    q = config.quantizer
    quantizer = Quantizer(q.num_codes, q.code_dim or q.dim, q.decay, q.commitment, q.revive_below)
    model = prepare(VQVAE(3 if config.data.frames else 2, image_channels, config.model, quantizer))
    optimizer = adam(model, config.optimizer)
    weight = config.loss.reconstruction_weight
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    def step(images):
        x = images.movedim(-1, 1).float() * (2 / 255) - 1
        with autocast:
            outputs, quantizer_loss, _ = model(x)
            loss = weight * F.mse_loss(outputs.float(), x) + quantizer_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
