"""TLS: certificates have the names that they are called by, come from one authority, and go where they are read."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from conftest import Render, ci_values
from objects import Json, Objects, container, file, key, pod

PARTS = ("router", "expert", "etcd")


def of_secret(objects: Objects, name: str, at: str) -> bytes:
    """What a Secret holds."""
    return base64.b64decode(objects.get("Secret", name)["data"][at], validate=True)


def certificate(objects: Objects, part: str) -> x509.Certificate:
    """That of a part."""
    return x509.load_pem_x509_certificate(of_secret(objects, f"consilium-{part}-tls", "tls.crt"))


def names(of: x509.Certificate) -> list[str]:
    """The DNS names of a certificate."""
    return of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def wanted(part: str, namespace: str) -> set[str]:
    """The names that somebody calls a part by."""
    if part == "router":
        found = set()
        for service in ("consilium-router", "consilium-router-headless"):
            found |= {service, f"{service}.{namespace}", f"{service}.{namespace}.svc"}
        return {*found, "localhost", "consilium.example.org"}
    if part == "expert":
        return {f"consilium-experts.{namespace}.svc"}
    return {"localhost", f"*.consilium-etcd.{namespace}.svc"}


@pytest.mark.parametrize("part", PARTS)
def test_a_certificate_that_the_chart_makes_can_be_used(render: Render, part: str) -> None:
    objects = render(ci_values("tls-self-signed"), namespace="ward")
    found = certificate(objects, part)
    assert wanted(part, "ward") <= set(names(found))
    authority = x509.load_pem_x509_certificate(of_secret(objects, f"consilium-{part}-tls", "ca.crt"))
    found.verify_directly_issued_by(authority)
    own = serialization.load_pem_private_key(of_secret(objects, f"consilium-{part}-tls", "tls.key"), None)
    assert own.public_key() == found.public_key()
    usage = set(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    # Each of them is a server to some and a client to others.
    assert {x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH} <= usage
    life = found.not_valid_after_utc - found.not_valid_before_utc
    assert datetime.timedelta(days=89) < life < datetime.timedelta(days=91)


def test_one_authority_signs_all_and_its_key_is_in_no_pod(render: Render) -> None:
    objects = render(ci_values("tls-self-signed"))
    assert len({of_secret(objects, f"consilium-{part}-tls", "ca.crt") for part in PARTS}) == 1
    authority = x509.load_pem_x509_certificate(of_secret(objects, "consilium-ca", "tls.crt"))
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for name, template in objects.pods():
        assert "consilium-ca" not in mounted_secrets(template), name


@pytest.mark.parametrize("part", PARTS)
def test_cert_manager_is_asked_for_the_same_names(render: Render, part: str) -> None:
    asked = render(ci_values("tls-cert-manager"), namespace="ward").get("Certificate", f"consilium-{part}-tls")["spec"]
    made = certificate(render(ci_values("tls-self-signed"), namespace="ward"), part)
    assert sorted(asked["dnsNames"]) == sorted(names(made))
    assert asked["issuerRef"] == {"name": "clinic-authority", "kind": "Issuer", "group": "cert-manager.io"}
    assert {"server auth", "client auth"} <= set(asked["usages"])
    assert asked["secretName"] == f"consilium-{part}-tls"


@pytest.mark.parametrize("case", ["tls-self-signed", "tls-cert-manager", "tls-existing"])
def test_every_part_reads_its_own_certificate(render: Render, case: str) -> None:
    values = ci_values(case)
    objects = render(values)
    secrets = values["tls"].get("existingSecrets", {part: f"consilium-{part}-tls" for part in PARTS})
    for name, template in objects.pods():
        part = "router" if name.endswith(("-router", "-test")) else "etcd" if name.endswith("-etcd") else "expert"
        assert mounted_secrets(template) - {"consilium-feedback"} == {secrets[part]}, name


def mounted_secrets(template: Json) -> set[str]:
    """The Secrets in a pod's volumes."""
    found = set()
    for volume in template["spec"].get("volumes", []):
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        found |= {it["secret"].get("name") or it["secret"]["secretName"] for it in sources if "secret" in it}
    return found


def paths(template: Json, main: str) -> set[str]:
    """Where the files of a container's volumes lie."""
    volumes = {it["name"]: it for it in template["spec"].get("volumes", [])}
    found = set()
    for mount in container(template, main)["volumeMounts"]:
        for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
            for item in source.get("secret", {}).get("items", []):
                found.add(f"{mount['mountPath']}/{item['path']}")
        if "secret" in volumes[mount["name"]]:
            found |= {f"{mount['mountPath']}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")}
    return found


@pytest.mark.parametrize("case", ["tls-self-signed", "tls-cert-manager", "tls-existing", "external-etcd", "default"])
def test_every_file_that_is_named_is_there(render: Render, case: str) -> None:
    objects = render(ci_values(case))
    for it in objects.of("Deployment"):
        template = pod(it)
        main = "router" if it["metadata"]["name"].endswith("-router") else "expert"
        config = file(
            objects.get("ConfigMap", it["metadata"]["name"]), "mesh.yaml" if main == "router" else "instance.yaml"
        )
        named = [path for name, path in config.get("tls", {}).items() if name != "expert_name"]
        of_etcd = config["registry"]["etcd"].get("tls", {})
        named += [of_etcd[name] for name in ("ca", "certificate", "key") if name in of_etcd]
        named += [config["feedback"]["key_file"]] if config.get("feedback") else []
        there = paths(template, main)
        assert {f"/etc/consilium/{name}" for name in named} <= there, key(it)


@pytest.mark.parametrize("namespace", ["clinic", "ward"])
def test_routers_ask_experts_for_the_name_that_they_have(render: Render, namespace: str) -> None:
    objects = render(ci_values("tls-self-signed"), namespace=namespace)
    asked = file(objects.get("ConfigMap", "consilium-router"), "mesh.yaml")["tls"]["expert_name"]
    assert names(certificate(objects, "expert")) == [asked]
    assert file(objects.get("ConfigMap", "consilium-general"), "instance.yaml")["server_name"] == asked
    # A router's certificate, or etcd's, is none of an expert.
    assert asked not in names(certificate(objects, "router")) + names(certificate(objects, "etcd"))


def test_without_tls_nobody_speaks_of_it(render: Render) -> None:
    objects = render()
    for it in objects.of("ConfigMap"):
        for name in ("mesh.yaml", "instance.yaml"):
            if name in it["data"]:
                assert "tls" not in file(it, name)
                assert "https" not in it["data"][name]
    assert not [it for it in objects.of("Secret") if it["metadata"]["name"].endswith("-tls")]


@pytest.mark.parametrize("asked", [True, False])
def test_callers_show_a_certificate_where_they_have_to(render: Render, asked: bool) -> None:
    values = {"tls": {"enabled": True, "clientCertificates": asked, "selfSigned": {"enabled": True}}}
    objects = render(values)
    tls = file(objects.get("ConfigMap", "consilium-router"), "mesh.yaml")["tls"]
    assert ("client_ca" in tls) == asked
    assert tls["ca"] == "tls/ca.crt"
    test = container(pod(objects.get("Pod", "consilium-test")), "ask")
    assert ("--key" in test["args"]) == asked
    assert "--ca" in test["args"]
    # Of experts, routers always do.
    assert "client_ca" in file(objects.get("ConfigMap", "consilium-general"), "instance.yaml")["tls"]


def test_etcd_asks_clients_and_members_for_certificates(render: Render) -> None:
    objects = render(ci_values("tls-self-signed"))
    args = container(pod(objects.get("StatefulSet", "consilium-etcd")), "etcd")["args"]
    assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(args)
    served = [it for it in args if it.startswith(("--listen-client", "--listen-peer", "--advertise", "--initial-adv"))]
    assert len(served) == 4
    assert all("https://" in it for it in served)
    endpoints = file(objects.get("ConfigMap", "consilium-general"), "instance.yaml")["registry"]["etcd"]["endpoints"]
    assert all(it.startswith("https://") for it in endpoints)


def test_the_key_of_feedback_is_one(render: Render) -> None:
    line = of_secret(render(), "consilium-feedback", "feedback.key")
    assert line.endswith(b"\n")
    assert len(base64.b64decode(line.strip(), validate=True)) == 32
    other = of_secret(render({"router": {"replicas": 3}}), "consilium-feedback", "feedback.key")
    assert line != other
    assert not render({"router": {"feedback": {"existingSecret": "theirs"}}}).has("Secret", "consilium-feedback")
