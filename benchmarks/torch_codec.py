"""The peer of neural codecs in PyTorch: SEANet's encoder and decoder of the same sizes, for inference.

As the published networks are once weight normalisation is removed: the convolutions have plain weights.
"""

import torch
from torch import nn
from torch.nn import functional


class Snake(nn.Module):
    """`x + sin(alpha x)^2 / alpha`, compiled as in DAC."""

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x):
        """[b c t] to [b c t]."""
        return snake(x, self.alpha)


@torch.jit.script
def snake(x, alpha):
    """The function of a `Snake`."""
    return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)


class Conv(nn.Module):
    """A convolution that makes t positions t / stride."""

    def __init__(self, sizes, inputs, outputs, size, stride=1, dilation=1):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, size, stride, dilation=dilation)
        reach = dilation * (size - 1) + 1 - stride
        self.around = (reach, 0) if sizes.causal else (reach - reach // 2, reach // 2)
        self.mode = {'zeros': 'constant'}.get(sizes.padding, sizes.padding)

    def forward(self, x):
        """[b c t] to [b outputs t/stride]."""
        return self.conv(functional.pad(x, self.around, self.mode))


class ConvTranspose(nn.Module):
    """A transposed convolution that makes t positions t * stride."""

    def __init__(self, sizes, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.stride, self.start = stride, 0 if sizes.causal else stride - stride // 2

    def forward(self, x):
        """[b c t] to [b outputs t*stride]."""
        return self.conv(x)[..., self.start : self.start + x.shape[-1] * self.stride]


class Unit(nn.Module):
    """A residual unit."""

    def __init__(self, sizes, c, dilation):
        super().__init__()
        hidden = c // sizes.compress
        self.block = nn.Sequential(
            activation(sizes, c),
            Conv(sizes, c, hidden, sizes.residual_kernel, dilation=dilation),
            activation(sizes, hidden),
            Conv(sizes, hidden, c, 1),
        )
        self.shortcut = Conv(sizes, c, c, 1) if sizes.shortcut else nn.Identity()

    def forward(self, x):
        """[b c t] to [b c t]."""
        return self.shortcut(x) + self.block(x)


class LSTM(nn.Module):
    """Layers of an LSTM, around which their input is added."""

    def __init__(self, c, layers):
        super().__init__()
        self.lstm = nn.LSTM(c, c, layers, batch_first=True)

    def forward(self, x):
        """[b c t] to [b c t]."""
        return x + self.lstm(x.transpose(1, 2))[0].transpose(1, 2)


def activation(sizes, channels):
    """The activation function of so many channels."""
    return Snake(channels) if sizes.activation == 'snake' else nn.ELU()


def encoder(sizes, channels):
    """[b channels t] to [b features t/factor]."""
    c = sizes.channels
    layers = [Conv(sizes, channels, c, sizes.kernel)]
    for stride in sizes.strides:
        layers += [Unit(sizes, c, dilation) for dilation in sizes.dilations]
        layers += [activation(sizes, c), Conv(sizes, c, 2 * c, 2 * stride, stride)]
        c *= 2
    layers += [LSTM(c, sizes.lstm)] if sizes.lstm else []
    return nn.Sequential(*layers, activation(sizes, c), Conv(sizes, c, sizes.features, sizes.latent_kernel))


def decoder(sizes, channels):
    """[b features t] to [b channels t*factor]."""
    c = (sizes.decoder_channels or sizes.channels) * 2 ** len(sizes.strides)
    layers = [Conv(sizes, sizes.features, c, sizes.kernel)]
    layers += [LSTM(c, sizes.lstm)] if sizes.lstm else []
    for stride in reversed(sizes.strides):
        layers += [activation(sizes, c), ConvTranspose(sizes, c, c // 2, stride)]
        c //= 2
        layers += [Unit(sizes, c, dilation) for dilation in sizes.dilations]
    layers += [activation(sizes, c), Conv(sizes, c, channels, sizes.kernel)]
    return nn.Sequential(*layers, *([nn.Tanh()] if sizes.tanh else []))
