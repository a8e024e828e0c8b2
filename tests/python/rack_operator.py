# SPDX-License-Identifier: Apache-2.0
"""An operator as users of kopf write them: notes in annotations what happened to a Hardware, and holds it until it knows of its end."""

import kopf

PLACE = ("tinkerbell.org", "v1alpha1", "hardware")


@kopf.on.create(*PLACE)
def created(patch, **_):
    patch.metadata.annotations["tests.invalid/created"] = "yes"


@kopf.on.update(*PLACE, field="metadata.labels.wanted")
def updated(patch, new, **_):
    patch.metadata.annotations["tests.invalid/updated"] = str(new)


@kopf.on.delete(*PLACE)
def deleted(**_):
    pass
