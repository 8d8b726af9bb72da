"""The model that MLflow stores, as code: it answers prompts with a released version.

MLflow keeps this file beside a note of which candidate of which model it stands for, and no pickle. Loading pulls the
version through `corrigenda.load`, which refuses it unless it was released and every byte hashes to what its manifest
says. Where the lock file pins the model, nothing else of it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

if TYPE_CHECKING:
    import pandas as pd


class ServedModel(mlflow.pyfunc.PythonModel):
    """Greedy answers to prompts, one a row of the column `prompt`."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401 - MLflow's context has no public type
        """Pull, verify and load the version."""
        import corrigenda

        note = json.loads(Path(context.artifacts["candidate"]).read_text(encoding="utf-8"))
        self._model, self._tokenizer = corrigenda.load(corrigenda.name_of(note["model"], note["candidate"]))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow's own returns nothing
        self,
        context: Any,  # noqa: ANN401 - MLflow's context has no public type
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[str]:
        """Answer each prompt, up to the answer's natural end."""
        from editors.scoring import generate

        return generate(self._model, self._tokenizer, list(model_input["prompt"]))


mlflow.models.set_model(ServedModel())
