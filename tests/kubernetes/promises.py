#!/usr/bin/env python3
"""What the chart's objects promise beyond their schemas: that they fit each other, the operator's code and the values.

  promises.py DIRECTORY    DIRECTORY holds NAME.json and NAME.notes of each values/NAME.yaml
"""

import json
import pathlib
import re
import sys
import urllib.parse

from rendered import Release, at

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts/drover"
NAMESPACE = "drover-system"
# By values file, what is compared; where a file is not named, as values.yaml has it.
FULLNAME = {"single": "cattle"}
ACCOUNT = {"everything": "drover-operator", "single": "deployer"}
ROLE_ARN = {"everything": "arn:aws:iam::123456789012:role/drover-operator"}
REPLICAS = {"everything": 3, "single": 1}
USER = {"everything": 1000650000, "single": None}
LEASE_SECONDS = {"everything": "20"}
SPREAD = {"everything": "DoNotSchedule"}
RUNBOOKS = {"everything": "https://wiki.example.com/drover/RUNBOOKS.md"}
NOT_WANTED = {"everything": {"DroverMachinesUnclaimed"}}
NAMESPACES = {"namespaces": ["shop", "billing"]}
# Beside the agents' port and what the container's variables name: protocol, port and where.
REACHED = {
    "everything": {("TCP", 443, "10.0.255.0/24"), ("TCP", 443, "10.0.254.0/24"), ("TCP", 80, "169.254.169.254/32")},
    "single": {("TCP", 443, "0.0.0.0/0"), ("TCP", 443, "anywhere"), ("TCP", 6443, "anywhere")},
}
MACHINES = {"everything": ["10.0.0.0/16", "10.1.0.0/16"], "single": ["10.0.0.0/16"]}
ALWAYS_REACHED = {("UDP", 53, "anywhere"), ("TCP", 53, "anywhere"), ("TCP", 80, "169.254.170.23/32")}


def operators(release):
    """Replicas that lead by turns, spread, and drained one by one."""
    spec = at(release.deployment, "spec")
    labels = at(spec, "template", "metadata", "labels") or {}
    selector = at(spec, "selector", "matchLabels") or {}
    release.equal("the Deployment selects its own Pods", selector.items() <= labels.items() and len(selector) > 0, True)
    replicas = REPLICAS.get(release.name, 2)
    release.equal("replicas", at(spec, "replicas"), replicas)
    release.equal("rollout", at(spec, "strategy"), {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})

    spread = {each["topologyKey"]: each for each in at(release.pod, "topologySpreadConstraints") or []}
    release.equal("spread over", set(spread), {"topology.kubernetes.io/zone", "kubernetes.io/hostname"})
    for key, each in spread.items():
        release.equal(f"spread over {key}", at(each, "whenUnsatisfiable"), SPREAD.get(release.name, "ScheduleAnyway"))
        release.equal(f"skew over {key}", at(each, "maxSkew"), 1)
        release.equal(f"a rollout's own spread over {key}", at(each, "matchLabelKeys"), ["pod-template-hash"])
        release.selects_operators(f"spread over {key}", at(each, "labelSelector", "matchLabels"))

    release.equal("DROVER_LEASE", release.env.get("DROVER_LEASE"), release.fullname)
    release.equal("DROVER_LEASE_SECONDS", release.env.get("DROVER_LEASE_SECONDS"), LEASE_SECONDS.get(release.name, "15"))
    for variable, field in [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")]:
        release.equal(variable, at(release.env.get(variable), "fieldRef", "fieldPath"), field)
    watched = NAMESPACES.get(release.name)
    release.equal("DROVER_NAMESPACES", release.env.get("DROVER_NAMESPACES"), watched and ",".join(watched))

    if replicas > 1:
        budget = at(release.one("PodDisruptionBudget", release.fullname), "spec")
        release.equal("maxUnavailable", at(budget, "maxUnavailable"), 1)
        release.equal("Pods that are not ready", at(budget, "unhealthyPodEvictionPolicy"), "AlwaysAllow")
        release.selects_operators("the budget", at(budget, "selector", "matchLabels"))


def security(release):
    """Each Pod: a user of its own, a read-only root, nothing of the host's."""
    user = USER.get(release.name, 65532)
    of_pod = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        of_pod |= {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    of_container = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "privileged": False, "readOnlyRootFilesystem": True}
    test = at(release.one("Pod", f"{release.fullname}-test-ready"), "spec")
    for what, pod in [("the operator", release.pod), ("the test", test)]:
        release.equal(f"{what}'s Pod runs as", at(pod, "securityContext"), of_pod)
        for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"]:
            release.equal(f"{what}'s {field}", at(pod, field), None)
        release.equal(f"volumes of the host in {what}'s Pod", [each["name"] for each in at(pod, "volumes") or [] if "hostPath" in each], [])
        containers = at(pod, "containers") or []
        release.equal(f"containers of {what}", len(containers), 1)
        for container in containers:
            release.equal(f"{what}'s container", at(container, "securityContext"), of_container)
            release.equal(f"{what}'s ports of the host", [port for port in at(container, "ports") or [] if "hostPort" in port], [])


def rights(release):
    """The operator's account and what is bound to it; what people get, and that nobody who may edit gets to write sets by it."""
    account = ACCOUNT.get(release.name, release.fullname)
    release.equal("the Pods' account", at(release.pod, "serviceAccountName"), account)
    made = release.one("ServiceAccount", account)
    if made is not None:
        arn = ROLE_ARN.get(release.name)
        release.equal("the account's annotations", at(made, "metadata", "annotations"), arn and {"eks.amazonaws.com/role-arn": arn})
        release.equal("the account's token for other Pods", at(made, "automountServiceAccountToken"), False)
    release.equal("the operator's token", at(release.pod, "automountServiceAccountToken"), True)
    subject = [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    for binding in release.all("ClusterRoleBinding") + release.all("RoleBinding"):
        name = at(binding, "metadata", "name")
        release.equal(f"{name} is bound to", at(binding, "subjects"), subject)
        role = release.one(at(binding, "roleRef", "kind"), at(binding, "roleRef", "name"))
        release.equal(f"{name} binds the role", at(role, "metadata", "name"), name)
    lease = release.one("Role", f"{release.fullname}-lease")
    if lease is not None:
        named = [at(rule, "resourceNames") for rule in at(lease, "rules") if "resourceNames" in rule]
        release.equal("the Lease that may be changed", named, [[release.env.get("DROVER_LEASE")]])

    for role in release.all("ClusterRole") + release.all("Role"):
        name, labels = at(role, "metadata", "name"), at(role, "metadata", "labels") or {}
        aggregated = {label: value for label, value in labels.items() if "aggregate-to" in label}
        into = {"rbac.authorization.k8s.io/aggregate-to-view": "true"} if name.endswith("-view") else {}
        release.equal(f"{name} is aggregated into", aggregated, into)
    for ending, verbs in [("view", LOOKING), ("edit", LOOKING | WRITING)]:
        role = release.one("ClusterRole", f"{NAMESPACE}-{release.fullname}-{ending}")
        if role is not None:
            allowed = {verb for rule in at(role, "rules") for verb in at(rule, "verbs")}
            release.equal(f"what {ending} may do", allowed, verbs)
            groups = {group for rule in at(role, "rules") for group in at(rule, "apiGroups")}
            release.equal(f"what {ending} is about", groups, {"drover.dev"})


LOOKING = {"get", "list", "watch"}
WRITING = {"create", "update", "patch", "delete", "deletecollection"}


def ports(release):
    """One port, from the operator's argument to those who ask it; and a NetworkPolicy that names what is used, no less and no more."""
    own = {port["name"]: port["containerPort"] for port in at(release.container, "ports") or []}
    listened = [int(word.rpartition(":")[2]) for word in at(release.container, "args") or [] if word.startswith("--listen=")]
    release.equal("the container's ports, and what it listens on", sorted(own.values()), listened)
    probes = {at(release.container, probe, "httpGet", "port") for probe in ["startupProbe", "livenessProbe", "readinessProbe"]}
    release.equal("ports of the probes", probes, set(own))
    service = release.one("Service", release.fullname)
    release.selects_operators("the Service", at(service, "spec", "selector"))
    release.equal("ports that the Service leads to", {port["targetPort"] for port in at(service, "spec", "ports") or []}, set(own))

    policy = at(release.one("NetworkPolicy", release.fullname), "spec")
    if policy is None:
        return
    release.selects_operators("the policy", at(policy, "podSelector", "matchLabels"))
    release.equal("the policy is about", at(policy, "policyTypes"), ["Ingress", "Egress"])
    let_in = [port for rule in at(policy, "ingress") or [] for port in at(rule, "ports") or []]
    release.equal("ports that are let in", {(port["protocol"], own.get(port["port"], port["port"])) for port in let_in},
                  {(port["protocol"], port["containerPort"]) for port in at(release.container, "ports") or []})
    # Where only some may ask, `helm test` is one of them.
    tested = at(release.one("Pod", f"{release.fullname}-test-ready"), "metadata", "labels") or {}
    for rule in at(policy, "ingress") or []:
        selected = [at(peer, "podSelector", "matchLabels") for peer in at(rule, "from") or []]
        lets = "from" not in rule or any(labels and labels.items() <= tested.items() for labels in selected)
        release.equal("the test Pod is let in", lets, True)
    agents = int(re.search(r"pub const AGENT_PORT: u16 = (\d+);", (REPOSITORY / "operator/api/src/wire.rs").read_text()).group(1))
    urls = [urllib.parse.urlsplit(value) for value in release.env.values() if isinstance(value, str) and "://" in value]
    wanted = {("TCP", agents, cidr) for cidr in MACHINES.get(release.name, [])} | {("TCP", url.port, f"{url.hostname}/32") for url in urls}
    release.equal("what may be reached", reached(policy), wanted | REACHED.get(release.name, set()) | ALWAYS_REACHED)


def reached(policy):
    return {
        (port["protocol"], port["port"], at(peer, "ipBlock", "cidr") or "anywhere")
        for rule in at(policy, "egress") or []
        for port in at(rule, "ports") or [{"protocol": "any", "port": "any"}]
        for peer in at(rule, "to") or [None]
    }


def watching(release):
    """What Prometheus and Grafana look for, where it is asked for: alerts with runbooks, a monitor that finds the Service, the dashboard."""
    service = release.one("Service", release.fullname)
    monitor = release.one("ServiceMonitor", release.fullname)
    if monitor is not None:
        selected = at(monitor, "spec", "selector", "matchLabels") or {}
        release.equal("the monitor finds the Service", selected.items() <= at(service, "metadata", "labels").items(), True)
        release.equal("the monitor looks in", at(monitor, "spec", "namespaceSelector", "matchNames"), [NAMESPACE])
        scraped = {(each["port"], at(each, "path")) for each in at(monitor, "spec", "endpoints")}
        release.equal("what is scraped", scraped, {(port["name"], "/metrics") for port in at(service, "spec", "ports")})
        release.equal("the monitor's label", at(monitor, "metadata", "labels", "release"), "prometheus")
    rules = release.one("PrometheusRule", release.fullname)
    if rules is not None:
        alerts = {rule["alert"]: rule for rule in at(rules, "spec", "groups", 0, "rules")}
        known = set(re.findall(r"^  - alert: (\w+)$", (CHART / "files/alerts.yaml").read_text(), re.MULTILINE))
        release.equal("alerts", set(alerts), known - NOT_WANTED.get(release.name, set()))
        sections = set(re.findall(r"^## (\w+)$", (CHART / "RUNBOOKS.md").read_text(), re.MULTILINE))
        for name, rule in alerts.items():
            runbook = f"{RUNBOOKS.get(release.name)}#{name.lower()}" if name in sections else None
            release.equal(f"{name}'s runbook_url", at(rule, "annotations", "runbook_url"), runbook)
            # What a scrape by the monitor says of where a series comes from.
            for label in [f'job="{at(service, "metadata", "name")}"', f'namespace="{NAMESPACE}"']:
                release.equal(f"{name} asks for {label}", label in rule["expr"], True)
    boards = release.one("ConfigMap", f"{release.fullname}-dashboards")
    if boards is not None:
        release.equal("the dashboards' label", at(boards, "metadata", "labels", "grafana_dashboard"), "1")
        release.equal("the dashboards' annotations", at(boards, "metadata", "annotations"), {"grafana_folder": "Databases"})
        own = {file.name: json.loads(file.read_text()) for file in (CHART / "files/dashboards").glob("*.json")}
        found = {name: json.loads(text) for name, text in (at(boards, "data") or {}).items()}
        release.equal("dashboards", found == own and len(own) > 0, True)


def install(release):
    """The configuration that the operator reads, resource definitions that stay, and what Helm says at the end."""
    mounts = {mount["name"]: mount["mountPath"] for mount in at(release.container, "volumeMounts") or []}
    config = next((each for each in at(release.pod, "volumes") or [] if "configMap" in each), None)
    read_from = f"--config={mounts.get(at(config, 'name'))}/drover.yaml"
    release.equal("the configuration is read", read_from in (at(release.container, "args") or []), True)
    data = at(release.one("ConfigMap", at(config, "configMap", "name")), "data") or {}
    release.equal("the configuration's files", list(data), ["drover.yaml"])
    checksum = at(release.deployment, "spec", "template", "metadata", "annotations", "checksum/config")
    release.equal("the configuration has a checksum", bool(checksum), True)
    for definition in release.all("CustomResourceDefinition"):
        kept = None if release.name == "single" else {"helm.sh/resource-policy": "keep"}
        release.equal("a resource definition's annotations", at(definition, "metadata", "annotations"), kept)
    hook = at(release.one("Pod", f"{release.fullname}-test-ready"), "metadata", "annotations", "helm.sh/hook")
    release.equal("the test's hook", hook, "test")
    realm, prefix = "test" if release.name == "single" else "production", "blue/" if release.name == "everything" else ""
    said = {
        f"keeps the realm {realm}, with its records in s3://example-drover/{prefix}.": True,
        f"kubectl -n {NAMESPACE} rollout status deployment/{release.fullname}\n": True,
        f"helm test drover -n {NAMESPACE}\n": True,
        "It watches every namespace.": release.name != "namespaces",
        "It watches: shop, billing.": release.name == "namespaces",
        "# machine: image, instanceTypes": release.name != "everything",
        "Mind: crds.keep is false.": release.name == "single",
        "leaves the custom resource definitions": release.name in ["everything", "minimal"],
    }
    for words, expected in said.items():
        release.equal(f"NOTES.txt says {words!r}", words in release.notes, expected)


def main(directory):
    broken = []
    for file in sorted(pathlib.Path(directory).glob("*.json")):
        release = Release(file, FULLNAME.get(file.stem, "drover"))
        for promise in [operators, security, rights, ports, watching, install]:
            promise(release)
        broken += release.broken
    sys.exit("\n".join(broken) or None)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
