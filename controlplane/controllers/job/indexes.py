"""Sets of completion indexes, as statuses write them: `1,3-5,7`.

Source: batch/v1 JobStatus.completedIndexes; k8s.io/kubernetes/pkg/controller/job/indexed_job_utils.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from machinery.api.meta import Object, annotations_of

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
IGNORED_ANNOTATION = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse_indexes(text: str | None, completions: int) -> set[int]:
    """The indexes of the text that are below `completions`; what can't be read is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        found.update(range(int(first), min(int(last if dash else first), completions - 1) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """The text of a set of indexes: ranges of three and more are written `a-c`, two neighbours `a,b`."""
    runs: list[list[int]] = []
    for index in sorted(set(indexes)):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    parts = []
    for first, last in runs:
        if last - first >= 2:
            parts.append(f"{first}-{last}")
        else:
            parts += [str(n) for n in range(first, last + 1)]
    return ",".join(parts)


def index_of(pod: Object) -> int | None:
    """The completion index of a pod of an Indexed Job; None if it has none that can be read."""
    text = annotations_of(pod).get(INDEX_ANNOTATION, "")
    return int(text) if text.isdigit() else None


def number_annotation(pod: Object, name: str) -> int:
    """A count kept in an annotation, 0 if it is not there."""
    text = annotations_of(pod).get(name, "")
    return int(text) if text.isdigit() else 0
