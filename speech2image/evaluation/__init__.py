"""One evaluator for every route: a model x a prepared data set -> results.json, results.md, report.html.

Command: `speech2image evaluate --model NAME --data SHARDS --network INCEPTION --out FOLDER`; with
`--table 2|3|4|5 --models FOLDER` or `--figure 3|4|5` a table or figure of the paper. Read `run.py` first:

    settings -> route, plan (utterances) -> embeddings -> drawing (features stay, pictures do not)
             -> retrieval, colours, realism, robustness -> results -> report (HTML, Markdown)

A voice is kept out if it speaks no training utterance; a class is unseen if no training picture shows it.
"""

from speech2image.evaluation.results import Results
from speech2image.evaluation.settings import MEASURES, EvaluationSettings, check

__all__ = ["MEASURES", "EvaluationSettings", "evaluate"]


def evaluate(settings: EvaluationSettings) -> Results:
    """Measure a model, or repeat an experiment of the paper, and write the report.

    Returns:
        What `results.json` holds; shares are in [0, 1].

    Raises:
        SettingsError: a setting is out of range, or a voice or measure is named that is not there.
        CheckpointError: the model or the network is unknown or damaged, or the model is of another embedding
            size than the teacher.
        DataError: the data has no test or training pictures, no teacher features, or no test speech.
        OutputError: `out` cannot be written, or holds an unfinished evaluation of something else.
    """
    from speech2image.evaluation import run
    from speech2image.evaluation.paper import figures, tables

    check(settings)
    if settings.table is not None:
        return tables.table(settings)
    if settings.figure is not None:
        return figures.figure(settings)
    return run.report(settings)
