"""The sections of an experiment config that are about a prior and its samples."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.ops.masking import Schedule
from vq_jax.sampling.autoregressive import Choice

# What stands for keys that the section 'model' once had.
FORMER_KEYS = {
    'level': "set config.model.scale instead, to 0 for 'top' and to 1 for 'bottom'",
    'top_workdir': 'set config.model.coarser_workdir instead',
}


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """Which network learns the tokens, and in which context.

    Attributes:
        kind: 'transformer' (section 'transformer') and 'pixelcnn' (section 'pixelcnn') predict each token
            from those before it; 'maskgit' is a transformer that predicts masked tokens from all others.
        pattern: in which order a 'transformer' predicts the codes of n positions and several depths:
            'flattened', one after the other, in n * depth steps; 'delay', those of depth d by d steps later,
            in n + depth - 1 steps, each of which predicts a code of each depth independently of the others
            (MusicGen, Copet et al. 2023, section 2.1); 'depth', those of a position one after the other by a
            small transformer over depths (section 'depth_transformer'), in n steps (RQ-Transformer, Lee et
            al. 2022, section 3.2).
        class_conditional: sample tokens of a given class.
        label_dropout: share of the training examples whose class is dropped, which guidance needs (Ho and
            Salimans 2022).
        given: share of the training examples of which a part is given, as in inpainting: the first of the
            first axis (of video and sound, of time), the first and the last, or all around a box. The hole is
            filled with the nearest frames, or a mean, and the codes are in the context, also those that stand
            for given and filled values at once (after MAGVIT, Yu et al. 2023, arXiv:2212.05199, section 3.2).
            Inpainting then fits what there is of such positions, and transformers what follows. Of a
            tokenizer with several scales, the coarsest is given.
        mask_schedule: of the share that is masked, in training and sampling, for 'maskgit'.
        scale: of a tokenizer with several scales of codes (Razavi et al. 2019), the one to learn: 0 is the
            coarsest, and each is the context of the next; None for a tokenizer with one.
        coarser_workdir: the run of the prior of the next coarser scale, which one of a finer scale needs to
            sample, but not to learn.
        coarser_step: the checkpoint of that run; None is its newest. It is no key of a config, but set where
            a run is opened again (see `vq_jax.training.run_dir.pin_built_on`).
    """

    kind: Literal['transformer', 'pixelcnn', 'maskgit'] = 'transformer'
    pattern: Literal['flattened', 'delay', 'depth'] = 'flattened'
    class_conditional: bool = False
    label_dropout: float = 0.1
    given: float = 0.0
    mask_schedule: Schedule = 'cosine'
    scale: int | None = None
    coarser_workdir: str = ''
    coarser_step: int | None = None

    def __post_init__(self) -> None:
        check_share(self, 'label_dropout', 'given')
        if self.kind != 'transformer' and self.pattern != 'flattened':
            raise UserError(
                f'pattern is {self.pattern!r}, which is of the kind transformer, and kind is {self.kind!r}; '
                'leave pattern out, or set kind=transformer.'
            )

    def check_depth(self, depth: int) -> None:
        """Raises `UserError` for a pattern that is none of so many codes of a position."""
        if depth == 1 and self.pattern != 'flattened':
            raise UserError(
                'this prior learns one code at each position, all that its tokenizer has or '
                'config.tokenizer.depths says, which all patterns predict alike; leave config.model.pattern '
                'out.'
            )

    def scale_of(self, num_scales: int) -> int:
        """Which of so many scales of codes is to be learned, counted from the coarsest."""
        if num_scales == 1 and self.scale is not None:
            raise UserError('this tokenizer has one scale of codes; leave config.model.scale out.')
        if num_scales > 1 and (self.scale is None or not 0 <= self.scale < num_scales):
            raise UserError(
                f'this tokenizer has {num_scales} scales of codes; set config.model.scale to one of them, '
                f'from 0, the coarsest, to {num_scales - 1}.'
            )
        if self.coarser_workdir and not self.scale:
            raise UserError(
                'config.model.coarser_workdir is for the prior of a finer scale; leave it out, or set '
                'config.model.scale to 1 or more.'
            )
        if self.given and self.scale:
            raise UserError(
                f'config.model.given is {self.given}, and a prior of scale {self.scale} reads the coarser '
                'codes instead; set it to 0, and train the prior of scale 0 with it.'
            )
        return self.scale or 0


@dataclasses.dataclass(frozen=True)
class Sampling(Choice):
    """How tokens are sampled.

    Attributes:
        guidance: towards the class; 1 is the model itself (see `vq_jax.ops.guidance`).
        steps: of 'maskgit'.
        confidence_temperature: of 'maskgit' (see `vq_jax.sampling.masked.generate_masked`).
        NUMBERS: see `vq_jax.tasks.batched_sampling.BatchedSampler`.
    """

    NUMBERS: ClassVar[Mapping[str, float | None]] = MappingProxyType(
        {'temperature': 0.0, 'top_p': None, 'guidance': 1.0, 'confidence_temperature': None}
    )

    guidance: float = 1.0
    steps: int = 12
    confidence_temperature: float = 4.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(1, self, 'steps')
        check_least(0, self, 'confidence_temperature')

    def unused(self) -> dict[str, str]:
        """Keys that change nothing beside the other choices, and why."""
        if self.temperature:
            return {}
        return dict.fromkeys(('top_k', 'top_p'), 'of a temperature of 0 the most likely token is taken')
