"""The VQ-VAE of `vq_jax.models.autoencoder` in PyTorch: a peer that benchmarks measure against.

The same layers, widths, losses and moving-average codebook, with Adam. Not used by the project itself.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ResidualBlock(nn.Module):
    """ReLU, 3x3 convolution, ReLU, 1x1 convolution, added to the input."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.inner = nn.Conv2d(channels, hidden, 3, padding=1)
        self.outer = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        """[b c h w] to [b c h w]."""
        return x + self.outer(F.relu(self.inner(F.relu(x))))


class Quantizer(nn.Module):
    """A codebook learned by moving average, with perplexity and revival of dead codes."""

    def __init__(self, num_codes, dim, decay, commitment, revive_below):
        super().__init__()
        self.decay, self.commitment, self.revive_below = decay, commitment, revive_below
        self.register_buffer('codebook', torch.randn(num_codes, dim))
        self.register_buffer('sums', self.codebook / num_codes)
        self.register_buffer('shares', torch.full((num_codes,), 1 / num_codes))

    def forward(self, z):
        """[b d h w] to the same, with the loss."""
        k = len(self.codebook)
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
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
        b, d, h, w = z.shape
        return values.reshape(b, h, w, d).permute(0, 3, 1, 2), loss, perplexity


class VQVAE(nn.Module):
    """Encoder, quantizer and decoder."""

    def __init__(self, *, image_channels, channels, stages, residual_blocks, residual_channels, quantizer):
        super().__init__()
        encoder = []
        for i in range(stages):
            width = image_channels if i == 0 else channels
            encoder += [nn.Conv2d(width, channels, 4, 2, 1), nn.ReLU()]
        blocks = [ResidualBlock(channels, residual_channels) for _ in range(residual_blocks)]
        encoder += [nn.Conv2d(channels, channels, 3, padding=1), *blocks, nn.ReLU()]
        dim = quantizer.codebook.shape[1]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(channels, dim, 1))
        self.quantizer = quantizer
        blocks = [ResidualBlock(channels, residual_channels) for _ in range(residual_blocks)]
        decoder = [nn.Conv2d(dim, channels, 3, padding=1), *blocks]
        for i in range(stages):
            width = image_channels if i == stages - 1 else channels
            decoder += [nn.ReLU(), nn.ConvTranspose2d(channels, width, 4, 2, 1)]
        self.decoder = nn.Sequential(*decoder)

    def forward(self, x):
        """Images [b c h w] in [-1, 1] to reconstructions, loss of the quantizer, perplexity."""
        values, loss, perplexity = self.quantizer(self.encoder(x))
        return self.decoder(values), loss, perplexity


def adam(network, config, **options):
    """Adam at the rate of a section of a config; on GPUs in one kernel."""
    fused = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=fused, **options)


def make_step(config, image_channels, device, dtype, prepare):
    """A training step `images uint8 [b h w c] tensor -> loss` for a VQ-VAE config of the project.

    `prepare` puts a network on the device, and may compile it.
    """
    torch.manual_seed(0)
    q = config.quantizer
    quantizer = Quantizer(q.num_codes, q.code_dim or q.dim, q.decay, q.commitment, q.revive_below)
    sizes = {
        name: config.model[name] for name in ('channels', 'stages', 'residual_blocks', 'residual_channels')
    }
    model = prepare(VQVAE(image_channels=image_channels, quantizer=quantizer, **sizes))
    optimizer = adam(model, config.optimizer)
    weight = config.loss.reconstruction_weight
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    def step(images):
        x = images.permute(0, 3, 1, 2).float() * (2 / 255) - 1
        with autocast:
            outputs, quantizer_loss, _ = model(x)
            loss = weight * F.mse_loss(outputs.float(), x) + quantizer_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
