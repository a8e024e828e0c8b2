# SPDX-License-Identifier: Apache-2.0
"""What the official Python client asks of an API server, and the answers that it must get. Arguments: kubeconfig, namespace."""

import datetime
import sys
import threading

from kubernetes import client, config, dynamic, utils, watch

config.load_kube_config(sys.argv[1])
NAMESPACE = sys.argv[2]
GROUP, VERSION = "tinkerbell.org", "v1alpha1"
core = client.CoreV1Api()
custom = client.CustomObjectsApi()


def equal(found, wanted, what):
    if found != wanted:
        sys.exit(f"{what}: found {found!r}, wanted {wanted!r}")


def refused(status, reason, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except client.exceptions.ApiException as error:
        equal(error.status, status, f"status of {call.__name__}")
        if f'"reason":"{reason}"' not in error.body.replace(" ", ""):
            sys.exit(f"{call.__name__}: no reason {reason} in {error.body}")
        return
    sys.exit(f"{call.__name__} was not refused")


def meta(**fields):
    return client.V1ObjectMeta(**fields)


def maps():
    """Typed objects without kind and apiVersion, a watch that begins now, patches, deletion."""
    made = core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=meta(generate_name="map-", labels={"of": "probe"}), data={"k": "v"})
    )
    name = made.metadata.name
    equal(name.startswith("map-"), True, "a generated name")
    seen = []
    started = threading.Event()
    watcher = watch.Watch()

    def look():
        stream = watcher.stream(
            core.list_namespaced_config_map, NAMESPACE, label_selector="of=probe", timeout_seconds=60
        )
        for event in stream:
            seen.append((event["type"], event["object"].metadata.name))
            started.set()
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    started.wait(60)
    core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"z": "y", "k": None}})
    equal(core.read_namespaced_config_map(name, NAMESPACE).data, {"z": "y"}, "a strategic merge patch")
    core.delete_namespaced_config_map(name, NAMESPACE)
    thread.join(60)
    equal(seen, [("ADDED", name), ("MODIFIED", name), ("DELETED", name)], "what was watched")
    refused(404, "NotFound", core.read_namespaced_config_map, name, NAMESPACE)
    utils.create_from_dict(
        client.ApiClient(), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "by-dict", "namespace": NAMESPACE}}
    )
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, client.V1ConfigMap(metadata=meta(name="by-dict")))


def pages():
    for number in range(5):
        core.create_namespaced_secret(
            NAMESPACE, client.V1Secret(metadata=meta(name=f"s{number}", labels={"of": "pages"}), string_data={"a": "b"})
        )
    found, following = [], None
    while True:
        page = core.list_namespaced_secret(NAMESPACE, label_selector="of=pages", limit=2, _continue=following)
        found += [(item.metadata.name, item.data, item.type) for item in page.items]
        following = page.metadata._continue
        if not following:
            break
    equal(found, [(f"s{number}", {"a": "Yg=="}, "Opaque") for number in range(5)], "five Secrets in pages of two")
    core.delete_collection_namespaced_secret(NAMESPACE, label_selector="of=pages")
    equal(core.list_namespaced_secret(NAMESPACE, label_selector="of=pages").items, [], "after a collection was deleted")


def hardware():
    """Custom objects through the untyped and the dynamic client, with server-side apply."""
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Hardware",
        "metadata": {"name": "h"},
        "spec": {"interfaces": [{"dhcp": {"mac": "02:00:00:00:00:01"}}]},
    }
    custom.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "hardware", body)
    patched = custom.patch_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, "hardware", "h", {"metadata": {"labels": {"x": "1"}}}
    )
    equal(patched["metadata"]["labels"], {"x": "1"}, "a patch of a custom object")
    resource = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version=f"{GROUP}/{VERSION}", kind="Hardware")
    equal([item.metadata.name for item in resource.get(namespace=NAMESPACE).items], ["h"], "a dynamic list")
    applied = resource.server_side_apply(
        body={"apiVersion": f"{GROUP}/{VERSION}", "kind": "Hardware", "metadata": {"name": "h"}, "spec": {"tinkVersion": 2}},
        name="h",
        namespace=NAMESPACE,
        field_manager="probe",
        force_conflicts=True,
    )
    equal((applied.spec.tinkVersion, len(applied.spec.interfaces)), (2, 1), "a server-side apply")
    stale = custom.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "hardware", "h")
    stale["metadata"]["resourceVersion"] = "1"
    refused(409, "Conflict", custom.replace_namespaced_custom_object, GROUP, VERSION, NAMESPACE, "hardware", "h", stale)
    status = {**applied.to_dict(), "status": {"state": "probed"}}
    custom.replace_namespaced_custom_object_status(GROUP, VERSION, NAMESPACE, "hardware", "h", status)
    equal(custom.get_namespaced_custom_object_status(GROUP, VERSION, NAMESPACE, "hardware", "h")["status"]["state"], "probed", "status")
    custom.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "hardware", "h")


def built_in():
    now = datetime.datetime.now(datetime.timezone.utc)
    spec = client.V1LeaseSpec(holder_identity="probe", lease_duration_seconds=15, renew_time=now)
    lease = client.CoordinationV1Api().create_namespaced_lease(NAMESPACE, client.V1Lease(metadata=meta(name="l"), spec=spec))
    equal(lease.spec.renew_time, now, "the time of a Lease, to the microsecond")
    about = client.V1ObjectReference(kind="Hardware", name="h", namespace=NAMESPACE)
    event = client.CoreV1Event(metadata=meta(name="e"), involved_object=about, reason="Probed", message="m", type="Normal")
    core.create_namespaced_event(NAMESPACE, event)
    found = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=h,reason=Probed").items
    equal([item.metadata.name for item in found], ["e"], "Events of one object")
    core.create_namespaced_service_account(NAMESPACE, client.V1ServiceAccount(metadata=meta(name="robot")))
    token = core.create_namespaced_service_account_token(
        "robot", NAMESPACE, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    )
    equal(token.status.token.count("."), 2, "a token of an account")
    attributes = client.V1ResourceAttributes(verb="get", group=GROUP, resource="hardware", namespace=NAMESPACE)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    equal(client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed, True, "may the admin read")
    client.AuthenticationV1Api().create_self_subject_review(client.V1SelfSubjectReview())


def discovery():
    equal(client.VersionApi().get_code().major, "1", "the version")
    groups = [group.name for group in client.ApisApi().get_api_versions().groups]
    equal({GROUP, "coordination.k8s.io", "apiextensions.k8s.io"} - set(groups), set(), "groups")
    definition = client.ApiextensionsV1Api().read_custom_resource_definition(f"hardware.{GROUP}")
    equal(definition.spec.names.kind, "Hardware", "a definition")
    equal(core.read_namespace(NAMESPACE).status.phase, "Active", "the namespace")


for part in (discovery, maps, pages, hardware, built_in):
    part()
