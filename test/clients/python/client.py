"""What a program written in Python does with a cluster.

It prints a line for each thing that worked and ends with an error at the first
that did not.
"""

import ast

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = "python"

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()


def refused(code, reason, call, *args, **kwargs):
    """Calls what must be refused, and returns the Status."""
    try:
        call(*args, **kwargs)
    except ApiException as e:
        status = client.ApiClient().deserialize(Answer(e.body), "V1Status")
        assert (e.status, status.reason) == (code, reason), e
        return status
    raise AssertionError("was not refused")


class Answer:
    """A body in the form that deserialize takes."""

    def __init__(self, data):
        self.data = data


def until(enough, call, *args, **kwargs):
    """Watches until enough(type, object) holds; returns the events as 'TYPE name'."""
    seen = []
    for event in watch.Watch().stream(call, *args, **kwargs):
        seen.append(event["type"] + " " + event["object"].metadata.name)
        if enough(event["type"], event["object"]):
            return seen
    raise AssertionError("the watch ended early")


def config_map(name, data=None, **labels):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def pod(name, command, **spec):
    container = client.V1Container(name="main", image="busybox.test/busybox:1", command=command)
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0, **spec),
    )


def version_and_discovery():
    assert client.VersionApi().get_code().minor == "37"
    assert "apps" in [g.name for g in client.ApisApi().get_api_versions().groups]
    assert "pods/exec" in [r.name for r in core.get_api_resources().resources]
    # These are asked for with a slash at the end.
    issuer = ast.literal_eval(client.WellKnownApi().get_service_account_issuer_open_id_configuration())
    assert issuer["jwks_uri"].endswith("/openid/v1/jwks"), issuer
    keys = ast.literal_eval(client.OpenidApi().get_service_account_issuer_open_id_keyset())
    assert keys["keys"][0]["use"] == "sig", keys


def create_and_list():
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    for name in "abc":
        core.create_namespaced_config_map(NAMESPACE, config_map(name, {"letter": name}, set="letters"))
    names, more = [], None
    while more != "":
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="set=letters", limit=2, _continue=more)
        names += [item.metadata.name for item in page.items]
        more = page.metadata._continue or ""
    assert names == ["a", "b", "c"], names
    assert core.list_node().items[0].metadata.creation_timestamp.year > 2000


def errors():
    refused(404, "NotFound", core.read_namespaced_config_map, "none", NAMESPACE)
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("a"))
    status = refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, config_map("A"))
    assert status.details.causes[0].field == "metadata.name"


def replace_and_conflict():
    old = core.read_namespaced_config_map("a", NAMESPACE)
    old.data["letter"] = "alpha"
    new = core.replace_namespaced_config_map("a", NAMESPACE, old)
    assert new.metadata.resource_version != old.metadata.resource_version
    refused(409, "Conflict", core.replace_namespaced_config_map, "a", NAMESPACE, old)


def patches():
    core.patch_namespaced_config_map("b", NAMESPACE, [{"op": "add", "path": "/data/json", "value": "1"}])
    got = core.patch_namespaced_config_map("b", NAMESPACE, {"data": {"strategic": "2", "letter": None}})
    assert got.data == {"json": "1", "strategic": "2"}, got.data


def watches():
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("d", set="letters"))
    core.create_namespaced_config_map(NAMESPACE, config_map("other"))
    core.patch_namespaced_config_map("d", NAMESPACE, {"data": {"x": "y"}})
    core.delete_namespaced_config_map("d", NAMESPACE)
    seen = until(
        lambda kind, _: kind == "DELETED",
        core.list_namespaced_config_map, NAMESPACE, label_selector="set=letters", resource_version=version,
    )
    assert seen == ["ADDED d", "MODIFIED d", "DELETED d"], seen


def objects_of_any_kind():
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"kind": "Boat", "plural": "boats"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }],
        },
    }
    utils.create_from_dict(client.ApiClient(), definition)
    extensions = client.ApiextensionsV1Api()
    until(
        lambda _, d: any(c.type == "Established" and c.status == "True" for c in d.status.conditions or []),
        extensions.list_custom_resource_definition, field_selector="metadata.name=boats.example.org",
    )
    boats = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="example.org/v1", kind="Boat")
    ferry = {"apiVersion": "example.org/v1", "kind": "Boat", "metadata": {"name": "ferry"}, "spec": {"seats": 12}}
    boats.create(body=ferry, namespace=NAMESPACE)
    boats.status.patch(name="ferry", namespace=NAMESPACE, body={"status": {"afloat": True}}, content_type="application/merge-patch+json")
    ferry = boats.get(name="ferry", namespace=NAMESPACE)
    assert ferry.status.afloat is True
    custom = client.CustomObjectsApi()
    assert len(custom.list_namespaced_custom_object("example.org", "v1", NAMESPACE, "boats")["items"]) == 1
    custom.delete_namespaced_custom_object("example.org", "v1", NAMESPACE, "boats", "ferry")
    extensions.delete_custom_resource_definition("boats.example.org")


def deployments():
    labels = {"app": "web"}
    web = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(
            replicas=1,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels),
                spec=client.V1PodSpec(
                    termination_grace_period_seconds=0,
                    containers=[client.V1Container(name="web", image="sagong.local/hello:v1")],
                ),
            ),
        ),
    )
    apps.create_namespaced_deployment(NAMESPACE, web)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    until(lambda _, d: d.status.ready_replicas == 2, apps.list_namespaced_deployment, NAMESPACE)


def logs():
    core.create_namespaced_pod(NAMESPACE, pod("talk", ["sh", "-c", "echo first; echo last"], restart_policy="Never"))
    until(lambda _, p: p.status.phase == "Succeeded", core.list_namespaced_pod, NAMESPACE, field_selector="metadata.name=talk")
    assert core.read_namespaced_pod_log("talk", NAMESPACE) == "first\nlast\n"
    assert core.read_namespaced_pod_log("talk", NAMESPACE, tail_lines=1) == "last\n"
    lines = list(watch.Watch().stream(core.read_namespaced_pod_log, "talk", NAMESPACE))
    assert lines == ["first", "last"], lines


def execs():
    core.create_namespaced_pod(NAMESPACE, pod("shell", ["sleep", "1000"]))
    until(
        lambda _, p: p.status.container_statuses and p.status.container_statuses[0].ready,
        core.list_namespaced_pod, NAMESPACE, field_selector="metadata.name=shell",
    )
    call = core.connect_get_namespaced_pod_exec
    assert stream(call, "shell", NAMESPACE, command=["echo", "out"], stdout=True, stderr=True) == "out\n"
    run = stream(
        call, "shell", NAMESPACE, command=["sh", "-c", "read line; echo got $line; echo err >&2; exit 3"],
        stdin=True, stdout=True, stderr=True, _preload_content=False,
    )
    run.write_stdin("hello\n")
    run.run_forever()
    assert (run.read_stdout(), run.read_stderr(), run.returncode) == ("got hello\n", "err\n", 3)


def port_forward():
    web = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0].metadata.name
    socket = portforward(core.connect_get_namespaced_pod_portforward, web, NAMESPACE, ports="8080").socket(8080)
    socket.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    page = b""
    while data := socket.recv(4096):
        page += data
    assert f"pod: {web}".encode() in page, page


def deletion():
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="set=letters")
    version = core.list_namespace().metadata.resource_version
    core.delete_namespace(NAMESPACE, propagation_policy="Foreground")
    until(
        lambda kind, n: kind == "DELETED" and n.metadata.name == NAMESPACE,
        core.list_namespace, resource_version=version,
    )
    refused(404, "NotFound", core.read_namespace, NAMESPACE)


for step in [
    version_and_discovery, create_and_list, errors, replace_and_conflict, patches, watches,
    objects_of_any_kind, deployments, logs, execs, port_forward, deletion,
]:
    step()
    print("ok", step.__name__, flush=True)
