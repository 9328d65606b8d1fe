"""An encoder of the codes of examples, for what is learned of them, such as texts that say what they show."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.code_embedding import embed_codes
from vq_jax.models.context import Context
from vq_jax.models.token_encoder import TokenEncoder
from vq_jax.models.transformer import INIT
from vq_jax.spec import CodeSpec, ConditionSpec


class CodeEncoder(TokenEncoder):
    """The condition `example`, its codes int32 [b n], to vectors of their positions and one of it all.

    The codes of all scales are in a row, as `CodeSpec.split` takes them. Several codes of a position are one
    token, the sum of their embeddings.

    Attributes:
        codes: what they are.
    """

    codes: CodeSpec

    def specs(self) -> dict[str, ConditionSpec]:
        """See `Conditioner`."""
        return {'example': ConditionSpec((self.codes.length,), 'int32')}

    @nn.compact
    def __call__(self, example: jax.Array) -> Context:
        """See `Conditioner`; of m positions in all scales, tokens [b m+1 width] and the vector [b width]."""
        embedded = []
        scales = zip(self.codes.split(example), self.codes.vocabularies, strict=True)
        for i, (codes, vocabulary) in enumerate(scales):
            size = len(vocabulary) * max(vocabulary)
            table = nn.Embed(size, self.width, embedding_init=INIT, name=f'scale_{i}')
            embedded.append(embed_codes(table, codes).reshape(len(example), -1, self.width))
        x = jnp.concatenate(embedded, axis=1)
        return self.context(x, jnp.ones(x.shape[:2], bool))
