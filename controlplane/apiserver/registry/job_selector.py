"""The selector and labels that tie the pods of a Job to it.

Source: pkg/registry/batch/job/strategy.go (generateSelector).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import child, flag, strings, text
from machinery.api.meta import Object, name_of, uid_of

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
LEGACY_CONTROLLER_UID = "controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
LEGACY_JOB_NAME = "job-name"


def generate_selector(job: Object) -> None:
    """Select the Job's pods by its uid, in place, unless the client selects by hand."""
    spec = child(job, "spec")
    if flag(spec, "manualSelector"):
        return
    metadata = child(child(spec, "template"), "metadata")
    labels = child(metadata, "labels")
    for key in (LEGACY_JOB_NAME, JOB_NAME):
        labels.setdefault(key, name_of(job))
    for key in (LEGACY_CONTROLLER_UID, CONTROLLER_UID):
        labels.setdefault(key, uid_of(job))
    child(child(spec, "selector"), "matchLabels").setdefault(CONTROLLER_UID, uid_of(job))


def label_as_pods(job: Object) -> None:
    """A Job without labels has those of its pods, in place."""
    own = child(job, "metadata")
    if not own.get("labels"):
        own["labels"] = dict(strings(job, "spec", "template", "metadata", "labels"))


def clear_generated(template: Object, job: Object) -> None:
    """Take out of a template what `generate_selector` put in, so that two can be compared, in place."""
    labels = child(child(template, "metadata"), "labels")
    for key, value in (
        (JOB_NAME, name_of(job)),
        (LEGACY_JOB_NAME, name_of(job)),
        (CONTROLLER_UID, uid_of(job)),
        (LEGACY_CONTROLLER_UID, uid_of(job)),
    ):
        if text(labels, key) == value:
            labels.pop(key, None)
