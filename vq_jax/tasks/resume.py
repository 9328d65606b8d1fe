"""A run that was begun in a directory, and what training needs to go on with it."""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vq_jax.tasks.restore import begun_config, config_of, identities
from vq_jax.tasks.task import Task, check_same_vectors
from vq_jax.training.config import to_json
from vq_jax.training.run_dir import (
    DataFacts,
    Extension,
    check_built_on,
    check_same_config,
    is_run,
    keep_schedule,
    named_anew,
    pin_built_on,
    read_data_facts,
)


@dataclasses.dataclass(frozen=True)
class Begun:
    """A run that was begun in a directory.

    Attributes:
        workdir: the directory.
        config: of the run, in JSON values and complete.
        facts: of its data.
    """

    workdir: Path
    config: dict[str, Any]
    facts: DataFacts

    @classmethod
    def find(cls, workdir: str | Path) -> 'Begun | None':
        """The run in a directory; None if there is none.

        Raises:
            UserError: what is there was changed, or cannot be gone on with (see `begun_config`).
        """
        workdir = Path(workdir)
        config = begun_config(workdir)
        return None if config is None else cls(workdir, config, read_data_facts(workdir))

    def going_on(self, config: ConfigDict, extend_schedule: Extension | None) -> ConfigDict:
        """The complete config to go on with (see `keep_schedule`), if it learns what the run has so far.

        Raises:
            UserError: it would learn something else (see `check_same_config`).
        """
        config = keep_schedule(self.config, config, extend_schedule)
        check_same_config(self.workdir, self.config, to_json(config), extend_schedule)
        return config

    def pinned(self, config: ConfigDict) -> ConfigDict:
        """A config of the run in which what it is built on are its own copies (see `pin_built_on`)."""
        recorded = to_json(config_of(self.workdir)) if is_run(self.workdir) else self.config
        return pin_built_on(config, self.workdir, named_anew(recorded, config))

    def check_task(self, task: Task) -> None:
        """Raises `UserError` if a task is built on other weights than the run is, or on vectors of texts."""
        check_built_on(self.workdir, identities(task))
        check_same_vectors(task.spec, self.facts.spec)
