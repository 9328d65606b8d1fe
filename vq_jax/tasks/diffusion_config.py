"""The sections of an experiment config that are about a diffusion model and its samples."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from vq_jax.errors import UserError, check_least, check_share, on_device
from vq_jax.ops.diffusion import ClockName, PathName, PredictionName, Process, ScheduleName, Weighting
from vq_jax.sampling.diffusion import GRIDS, READERS, GridName, Options, SamplerName


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Which network learns to take which noise away.

    Attributes:
        backbone: 'unet' (section 'unet') or 'dit' (section 'dit').
        class_conditional: sample images of a given class.
        label_dropout: share of the training examples whose class is dropped, which guidance needs (Ho and
            Salimans 2022).
        fourier: the network also sees sines and cosines of `pi 2^n` times the noisy example for these n,
            so that it sees differences as small as those between bytes, which take most of the bits of
            a likelihood (Kingma et al. 2021, arXiv:2107.00630, appendix C).
        upscale: if above 1, the context is the image at a resolution that is so many times lower on each
            axis: super-resolution (Saharia et al. 2021, arXiv:2104.07636).
        given: share of the training examples of which a part is given, as in inpainting (see the attribute of
            `vq_jax.tasks.prior_config.PriorConfig`). What is given is then in the context: latents of the
            example with its hole filled, and which share of each is known.
        image_dropout: of super-resolution, the share of the training examples whose image of low resolution
            is dropped, together with the class as far as both shares allow, so that guidance leans towards
            it too.
        schedule: how noise grows with time (see `vq_jax.ops.diffusion.SCHEDULES`).
        path: from data to noise; with 'straight', `schedule` 'straight' and `prediction` 'velocity' this
            is flow matching.
        shift: how much stronger noise is than the schedule says, for large images.
        timesteps: of discrete time; 0 for continuous time.
        clock: what the network is told of a time: 'thousandths' of the way from data to noise; 'steps', the
            number of the step, from 0, in discrete time (Ho et al. 2020's code, and DiT); 'from_noise', the
            share of the way from noise to data (SiT, Ma et al. 2024, arXiv:2401.08740).
        prediction: what the network predicts.
        weighting: of its squared error over time (see `vq_jax.ops.diffusion.loss_weight`).
        min_snr_gamma: the bound in the weighting 'min_snr'.
        learned_variance: the network also predicts the variance of each step, in discrete time (Nichol and
            Dhariwal 2021, arXiv:2102.09672).
        variational_weight: of the bound that teaches it, in nats a value.
    """

    backbone: Literal['unet', 'dit'] = 'unet'
    class_conditional: bool = False
    label_dropout: float = 0.1
    fourier: tuple[int, ...] = ()
    upscale: int = 1
    given: float = 0.0
    image_dropout: float = 0.0
    schedule: ScheduleName = 'cosine'
    path: PathName = 'variance_preserving'
    shift: float = 1.0
    timesteps: int = 0
    clock: ClockName = 'thousandths'
    prediction: PredictionName = 'v'
    weighting: Weighting = 'uniform'
    min_snr_gamma: float = 5.0
    learned_variance: bool = False
    variational_weight: float = 0.001

    def __post_init__(self) -> None:
        check_share(self, 'label_dropout', 'image_dropout', one=False)
        check_share(self, 'given')
        check_least(1, self, 'upscale')
        check_least(0, self, 'variational_weight')
        if self.given and self.upscale > 1:
            raise UserError(
                f'given is {self.given}, and super-resolution is given all of an image; leave it out, or '
                'upscale.'
            )
        if self.image_dropout and self.upscale == 1:
            raise UserError('image_dropout is for super-resolution; set upscale.')
        if any(not 0 <= n <= 12 for n in self.fourier):
            raise UserError(f'fourier is {self.fourier}; give exponents from 0 to 12.')
        if not on_device('min_snr_gamma', self.min_snr_gamma) > 0:
            raise UserError(f'min_snr_gamma is {self.min_snr_gamma}; give a number above 0.')
        if self.clock == 'steps' and not self.timesteps:
            raise UserError(
                'timesteps is 0, and the clock counts steps; set it to 1000, say, or clock=thousandths.'
            )
        if self.learned_variance and not self.timesteps:
            raise UserError(
                'timesteps is 0, and learned_variance needs steps whose variance there is to learn; set it '
                'to 1000, say.'
            )
        self.process()  # checks the rest

    def process(self) -> Process:
        """The forward process."""
        return Process(self.schedule, self.path, self.shift, self.timesteps)


@dataclasses.dataclass(frozen=True)
class Sampling(Options):
    """How images are sampled.

    Attributes:
        sampler: see `vq_jax.sampling.diffusion.SAMPLERS`.
        steps: how many; 'heun' calls the network twice in each.
        grid: how times are spread (see `vq_jax.sampling.diffusion.time_grid`); None takes the grid that is
            best for the sampler: 'cubic' for 'dpm_solver' and 'unipc', 'quadratic' for the others.
        guidance: towards the context; 1 is the model itself.
        rescale: how far guidance keeps the contrast, from 0 to 1 (Lin et al. 2024, arXiv:2305.08891).
        threshold: what is expected of pixels is clipped to their range ('static'), or shrunk into it
            ('dynamic', Saharia et al. 2022); latents have no range, and are left as they are.
        percentile: share of the pixels that 'dynamic' brings into the range.
        repeats: in inpainting, how often each step is made (Lugmayr et al. 2022). Samples fit best
            with the sampler 'ddpm', 4 repeats and guidance 1; of samplers without noise it changes next to
            nothing.
        NUMBERS: see `vq_jax.tasks.batched_sampling.BatchedSampler`.
    """

    NUMBERS: ClassVar[Mapping[str, float | None]] = MappingProxyType(
        {'eta': 0.0, 'guidance': 1.0, 'rescale': 0.0, 'percentile': None}
    )

    sampler: SamplerName = 'ddim'
    steps: int = 50
    grid: GridName | None = None
    guidance: float = 1.0
    rescale: float = 0.0
    threshold: Literal['static', 'dynamic', 'none'] = 'static'
    percentile: float = 0.995
    repeats: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(1, self, 'steps', 'repeats')
        on_device('the number of steps times that of repeats', self.steps * self.repeats)
        check_share(self, 'rescale', 'percentile')

    def grid_name(self) -> GridName:
        """The grid that is asked for, or the best for the sampler."""
        return self.grid or GRIDS[self.sampler]

    def unused(self, method: str) -> dict[str, str]:
        """Keys that change nothing in a method of the task, beside the other choices, and why."""
        if method == 'interpolate':
            names = [field.name for field in dataclasses.fields(self) if field.name not in ('steps', 'grid')]
            return dict.fromkeys(names, 'interpolation is by ddim, without noise, guidance and threshold')
        unused = {
            name: f'it is for the sampler {" or ".join(readers)}, and this is {self.sampler}'
            for name, readers in READERS.items()
            if self.sampler not in readers
        }
        if method != 'inpaint':
            unused['repeats'] = 'it is for inpainting'
        if self.guidance == 1:
            unused['rescale'] = 'it is for guidance other than 1'
        if self.threshold != 'dynamic':
            unused['percentile'] = f'it is for the threshold dynamic, and this is {self.threshold}'
        return unused


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation measures.

    Attributes:
        times: at how many times each image is noised, for the loss and for the bound.
        flow_steps: of the probability flow, for the likelihood of a model of pixels in continuous time; 0
            leaves it out. Each takes two calls of the network and of its derivative for each probe.
        flow_probes: estimates of its divergence that are averaged.
    """

    times: int = 8
    flow_steps: int = 0
    flow_probes: int = 1

    def __post_init__(self) -> None:
        check_least(1, self, 'times', 'flow_probes')
        check_least(0, self, 'flow_steps')
