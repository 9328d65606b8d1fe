"""Captioners: priors of the texts that say what examples show, given the codes of the examples."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.data import Dataset
from vq_jax.errors import UserError, check_share
from vq_jax.media import Media, show
from vq_jax.models.code_encoder import CodeEncoder
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.ops.keys import content_keys
from vq_jax.ops.masking import Schedule
from vq_jax.spec import ConditionSpec, Spec
from vq_jax.tasks.batched_sampling import check_guidance
from vq_jax.tasks.codec import (
    Codec,
    Text,
    TokenizerConfig,
    check_embeddable,
    check_written,
    codes_of,
    make_codec,
)
from vq_jax.tasks.conditioner_config import TEXT, caption_spec
from vq_jax.tasks.prior import MOST_PIXELS, PriorTask
from vq_jax.tasks.prior_config import PriorConfig, Sampling
from vq_jax.tasks.task import Task
from vq_jax.tasks.token_network import make_network
from vq_jax.text_tokenizers import texts_of
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class CaptionerConfig:
    """Which network learns the tokens of texts.

    Attributes:
        kind: 'transformer' predicts each token from those before it; 'maskgit' is a transformer that predicts
            masked tokens from all others.
        mask_schedule: of the share that is masked, in training and sampling, for 'maskgit'.
        dropout: share of the training examples whose codes are dropped, so that only the text is seen, which
            guidance needs (of captions, Kornblith et al. 2023, arXiv:2307.16686).
    """

    kind: Literal['transformer', 'maskgit'] = 'transformer'
    mask_schedule: Schedule = 'cosine'
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share(self, 'dropout')


@dataclasses.dataclass(frozen=True)
class CaptionerTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    It is a prior of texts, whose examples are the condition `text` of the data, and whose condition are the
    codes of the examples of the data. `state.frozen` is that of the prior, and the codec's as 'tokenizer'.

    Attributes:
        texts: learns and samples texts, given the codes of what they are of.
        codec: examples to codes.
    """

    inference_needs_frozen: ClassVar[bool] = True

    texts: PriorTask
    codec: Codec
    spec: Spec
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'tokenizer', 'model', 'code_encoder', 'transformer' and 'sampling'."""
        return {
            'tokenizer': defaults(TokenizerConfig),
            'model': defaults(CaptionerConfig),
            'code_encoder': defaults(CodeEncoder),
            'transformer': defaults(TransformerSizes),
            'sampling': defaults(Sampling),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'CaptionerTask':
        """The task of a full config, for examples with texts; reads the tokenizer's run, and no classes."""
        options = build(CaptionerConfig, config.model, 'model')
        sampling = build(Sampling, config.sampling, 'sampling')
        texts = caption_spec(config, spec)
        codec = make_codec(build(TokenizerConfig, config.tokenizer, 'tokenizer'), spec)
        _check_codes(codec)
        encoder = build(CodeEncoder, config.code_encoder, 'code_encoder', codes=codec.code_spec)
        check_guidance(sampling.guidance, conditional=True, dropout=options.dropout)
        sizes = {'transformer': build(TransformerSizes, config.transformer, 'transformer')}
        how = PriorConfig(kind=options.kind, mask_schedule=options.mask_schedule)
        of_texts = Text(texts)
        prior = PriorTask(
            network=make_network(how, sizes, of_texts.code_spec, 0, 0, encoder, options.dropout),
            codec=of_texts,
            scale=0,
            coarser=None,
            sampling=sampling,
            optimizer=model_optimizer(config),
            spec=texts,
            num_labels=0,
            accumulate=config.accumulate,
        )
        return cls(texts=prior, codec=codec, spec=spec, accumulate=config.accumulate)

    @property
    def model(self) -> Transformer:
        """The Flax module."""
        return self.texts.model

    @property
    def sampling(self) -> Sampling:
        """How tokens are sampled."""
        return self.texts.sampling

    @property
    def condition_specs(self) -> dict[str, ConditionSpec]:
        """The texts that are learned."""
        return {TEXT: ConditionSpec(self.texts.spec.shape, 'int32')}

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises `UserError` if a data set has no texts, or other examples or codes."""
        self.check_spec(dataset.spec)
        self.check_conditions(dataset)
        check_written(self.codec, dataset)

    def built_on(self) -> dict[str, Any]:
        """The tokenizer."""
        return {'tokenizer': self.codec.run} if self.codec.run else {}

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        return self.texts.init(key, batch)

    def pretrained(self) -> Any:
        """What the codec learned, beside what the prior asks for."""
        return {**self.texts.pretrained(), 'tokenizer': self.codec.state()}

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        return self.texts.train_step(state, self._texts(state, batch), axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """As that of a prior of texts."""
        return self.texts.eval_step(state, self._texts(state, batch))

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """As a prior of texts: 'loss' is nats a token, and 'bits_per_byte' are those of texts."""
        return self.texts.summarize(means)

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Examples if there are, their texts, and what is sampled in the place of these."""
        known = self._texts(state, batch)
        sampled = self._sample(state, content_keys(known['x']), known['example'], known['label'])
        shown = {'images': batch['x']} if 'x' in batch else {}
        return {**shown, 'texts': known['x'], 'sampled': sampled}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """The texts and what was sampled, and the examples, over which stands the latter."""
        texts = {'text': predictions['texts'], 'sampled': predictions['sampled']}
        media = show('descriptions', texts, self.texts.spec)
        if 'images' in predictions:
            columns = texts_of(predictions['sampled'], self.texts.spec.tokens)
            media |= show('described', {'originals': predictions['images']}, self.spec, columns)
        return media

    def describe(
        self,
        state: TrainState,
        keys: jax.Array,
        examples: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Texts of examples [b ...], as tokens int32 [b m] with -1 after the end.

        There is a random key for each [b]; labels [b] are not read.
        """
        codes = self.codec.encode(state.frozen['tokenizer'], examples)
        return self._sample(state, keys, _in_a_row(codes), labels, sampling)

    def unused(self, sampling: Sampling, method: str) -> dict[str, str]:
        """Keys that change nothing for this model, and why."""
        return self.texts.unused(sampling, method)

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `UserError` if texts cannot be sampled in this way."""
        self.texts.check_sampling(sampling)

    def _texts(self, state: TrainState, batch: Batch) -> Batch:
        """A batch of the prior of texts: the texts of a batch, and its codes as their condition."""
        codes = codes_of(self.codec, state.frozen['tokenizer'], batch)
        return {'x': batch[TEXT], 'label': batch['label'], 'example': _in_a_row(codes)}

    def _sample(
        self,
        state: TrainState,
        keys: jax.Array,
        codes: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Texts of examples with these codes, int32 [b n]."""
        return self.texts.sample(state, keys, labels, sampling, {'example': codes})


def _in_a_row(codes: tuple[jax.Array, ...]) -> jax.Array:
    """Codes [b *grid depth] of all scales in a row [b n], as `CodeSpec.split` takes them."""
    return jnp.concatenate([scale.reshape(len(scale), -1) for scale in codes], axis=1)


def _check_codes(codec: Codec) -> None:
    """Raises `UserError` for codes that a captioner does not read."""
    check_embeddable(codec, 'captioner')
    n = sum(map(math.prod, codec.code_spec.grids))
    if n > MOST_PIXELS and codec.run is None:
        raise UserError(
            'without config.tokenizer.workdir the codes are the pixels, of which these images have '
            f'{n:,}; a captioner is made for at most {MOST_PIXELS:,}; set config.tokenizer.workdir to a run '
            'of vqvae or vqgan.'
        )
