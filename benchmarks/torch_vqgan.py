"""VQGAN in PyTorch, as its published training does a step: a peer that benchmarks measure against.

The layers of `vq_jax.models.vqgan` and its losses, but for those choices that `measuring.py` lists as
lacking here, with Adam. A step is that of the published code: each network's optimizer runs the
autoencoder forward for itself, and the adaptive weight is taken by two calls of `torch.autograd.grad` on the
last layer. Not used by the project itself.
"""

import torch
import torch._functorch.config
import torch.nn.functional as F
from torch import nn
from torch_vqvae import Quantizer, adam, normal

VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class ResidualBlock(nn.Module):
    """Twice: group normalisation, swish, 3x3 convolution; added to the input."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.normal1, self.conv1 = normal(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.normal2, self.conv2 = normal(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        """[b c h w] to [b d h w]."""
        h = self.conv1(F.silu(self.normal1(x)))
        return self.short(x) + self.conv2(F.silu(self.normal2(h)))


class Attention(nn.Module):
    """Self-attention with one head over all places, added to the input."""

    def __init__(self, channels):
        super().__init__()
        self.normal = normal(channels)
        self.joint, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """[b c h w] to the same."""
        b, c, h, w = x.shape
        q, k, v = self.joint(self.normal(x)).reshape(b, 3, c, h * w).transpose(2, 3).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.transpose(1, 2).reshape(b, c, h, w))


class Down(nn.Module):
    """A 3x3 convolution of stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        """[b c h w] to [b c h/2 w/2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Each pixel becomes four, then a 3x3 convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        """[b c h w] to [b c 2h 2w]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode='nearest'))


def levels(model, blocks, order, width):
    """The blocks of all levels in an order, from a width on."""
    layers = []
    for level in order:
        for _ in range(blocks):
            outputs = model.channels * model.multipliers[level]
            layers.append(ResidualBlock(width, outputs))
            width = outputs
            if level in model.attention_resolutions:
                layers.append(Attention(width))
        if level != order[-1]:
            layers.append(Down(width) if order[0] == 0 else Up(width))
    return layers, width


class VQGAN(nn.Module):
    """Encoder, quantizer and decoder."""

    def __init__(self, model, image_channels, quantizer, code_dim):
        super().__init__()

        def middle(width):
            return [ResidualBlock(width, width), Attention(width), ResidualBlock(width, width)]

        order = list(range(len(model.multipliers)))
        down, width = levels(model, model.residual_blocks, order, model.channels)
        self.encoder = nn.Sequential(
            nn.Conv2d(image_channels, model.channels, 3, padding=1),
            *down,
            *middle(width),
            normal(width),
            nn.SiLU(),
            nn.Conv2d(width, model.features, 3, padding=1),
        )
        self.before = nn.Conv2d(model.features, code_dim, 1)
        self.quantizer = quantizer
        self.after = nn.Conv2d(code_dim, model.features, 1)
        up, last = levels(model, model.residual_blocks + 1, order[::-1], width)
        self.decoder = nn.Sequential(
            nn.Conv2d(model.features, width, 3, padding=1),
            *middle(width),
            *up,
            normal(last),
            nn.SiLU(),
            nn.Conv2d(last, image_channels, 3, padding=1),
        )

    def forward(self, x):
        """Images [b c h w] to reconstructions and the quantizer's loss."""
        values, loss, _ = self.quantizer(self.before(self.encoder(x)))
        return self.decoder(self.after(values)), loss


def patch_discriminator(image_channels, channels, stages):
    """PatchGAN with batch normalisation."""
    layers = [nn.Conv2d(image_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
    width = channels
    for stage in range(1, stages + 1):
        outputs = channels * min(2**stage, 8)
        stride = 2 if stage < stages else 1
        layers += [
            nn.Conv2d(width, outputs, 4, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.2),
        ]
        width = outputs
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))


class LPIPS(nn.Module):
    """VGG-16's features compared, with even weights."""

    def __init__(self):
        super().__init__()
        width, self.stages = 3, nn.ModuleList()
        for i, widths in enumerate(VGG):
            layers = [nn.MaxPool2d(2)] if i else []
            for outputs in widths:
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()]
                width = outputs
            self.stages.append(nn.Sequential(*layers))
        self.requires_grad_(False)

    def forward(self, x, y):
        """Images [b 3 h w] to the mean distance."""
        total = 0
        for stage in self.stages:
            x, y = stage(x), stage(y)
            a, b = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (x, y))
            total = total + (a - b).square().mean()
        return total


def make_step(config, image_channels, device, dtype, prepare):
    """A training step `images uint8 [b h w c] tensor -> loss` for a VQGAN config of the project.

    `prepare` puts a network on the device, and may compile it.
    """
    torch.manual_seed(0)
    q = config.quantizer
    code_dim = q.code_dim or config.model.features
    quantizer = Quantizer(q.num_codes, code_dim, q.decay, q.commitment, q.revive_below)
    # `torch.compile` would give away what the second of two backward passes needs again.
    torch._functorch.config.donated_buffer = False
    model = prepare(VQGAN(config.model, image_channels, quantizer, code_dim))
    d = config.discriminator
    discriminator = prepare(patch_discriminator(image_channels, d.channels, d.stages))
    perceptual = prepare(LPIPS()) if config.perceptual.kind in ('lpips', 'random_vgg') else None
    optimizer = adam(model, config.optimizer, betas=(0.5, 0.9))
    other = adam(discriminator, config.discriminator_optimizer, betas=(0.5, 0.9))
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')
    last = model.decoder[-1].weight

    def step(images):
        x = images.permute(0, 3, 1, 2).float() * (2 / 255) - 1
        with autocast:
            outputs, quantizer_loss = model(x)
            rebuilding = (outputs - x).abs().mean()
            if perceptual is not None:
                rebuilding = rebuilding + perceptual(outputs, x)
            game = -discriminator(outputs).mean()
        ours = torch.autograd.grad(rebuilding, last, retain_graph=True)[0]
        theirs = torch.autograd.grad(game, last, retain_graph=True)[0]
        weight = (ours.norm() / (theirs.norm() + 1e-4)).clamp(0, 1e4).detach()
        loss = rebuilding + config.adversarial.weight * weight * game + quantizer_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

        with autocast:
            with torch.no_grad():
                outputs, _ = model(x)
            real, fake = discriminator(x), discriminator(outputs)
            loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        other.zero_grad(set_to_none=True)
        loss.backward()
        other.step()
        return loss.detach()

    return step
