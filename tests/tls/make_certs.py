#!/usr/bin/python3
"""Certificates for the tests, made with the openssl tool: make_certs.py FOLDER.

Each NAME.pem is a leaf and what stands between it and root.pem; NAME.key its key. LEAVES below says
what is special about each; tests/unit/test_tls_verify.c what must become of it.
"""
import os
import shutil
import subprocess
import sys

NAME = "good.example.test"
EC = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
RSA = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
RSA_1024 = ["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]

CONFIG = """
[ca]
default_ca = ca_default
[ca_default]
database = {folder}/index
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
unique_subject = no
default_md = sha256
default_crl_days = 3650
policy = any
copy_extensions = none
[any]
commonName = optional
[req]
distinguished_name = any_name
[any_name]
"""

CA = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
LEAF = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
SERVER = "extendedKeyUsage=serverAuth"

# name: (issuer, what differs)
AUTHORITIES = {
    "root": (None, {}),
    "other-root": (None, {}),
    "inter": ("root", {"extensions": ["basicConstraints=critical,CA:TRUE,pathlen:0", CA[1]]}),
    "inter-long": ("inter", {}),  # beyond the path length of inter
    "inter-sha1": ("root", {"digest": "sha1"}),
    "inter-expired": ("root", {"begin": "20100101000000Z", "end": "20200101000000Z"}),
    "inter-limited": ("root", {"extensions": [
        *CA, "nameConstraints=critical,permitted;DNS:allowed.test"]}),
    "inter-below-limited": ("inter-limited", {}),
    "inter-excluding": ("root", {"extensions": [
        *CA, "nameConstraints=critical,excluded;DNS:example.test"]}),
    "inter-address": ("root", {"extensions": [
        *CA, "nameConstraints=critical,permitted;IP:10.0.0.0/255.0.0.0"]}),
    "inter-client": ("root", {"extensions": [*CA, "extendedKeyUsage=clientAuth"]}),
    "inter-no-sign": ("root", {"extensions": [CA[0], "keyUsage=critical,cRLSign"]}),
    "inter-no-ca": ("root", {"extensions": ["basicConstraints=critical,CA:FALSE", CA[1]]}),
    "inter-weak": ("root", {"key": RSA_1024}),
    "inter-again": ("inter", {"subject": "/CN=inter"}),  # a new key: no step of a path's length
    "inter-below-again": ("inter-again", {}),
    "root-short": (None, {"extensions": ["basicConstraints=critical,CA:TRUE,pathlen:0", CA[1]]}),
    "inter-short": ("root-short", {}),
}
LEAVES = {
    "good": ("inter", {}),
    "rsa": ("inter", {"key": RSA}),
    "ed25519": ("inter", {"key": ["ED25519"]}),
    "no-subject": ("inter", {"subject": "/", "critical": True}),
    "expired": ("inter", {"begin": "20100101000000Z", "end": "20200101000000Z"}),
    "not-yet": ("inter", {"begin": "20900101000000Z", "end": "20910101000000Z"}),
    "unknown-ca": ("other-root", {}),
    "self-signed": (None, {}),
    "wrong-name": ("inter", {"names": "DNS:other.example.test"}),
    "cn-only": ("inter", {"names": None}),
    "wildcard": ("inter", {"names": "DNS:*.example.test"}),
    "wildcard-partial": ("inter", {"names": "DNS:go*.example.test"}),
    "wildcard-inner": ("inter", {"names": "DNS:good.*.test"}),
    "wildcard-top": ("inter", {"names": "DNS:*.test"}),
    "address": ("inter", {"names": "IP:127.0.0.1,IP:::1"}),
    "address-as-name": ("inter", {"names": "DNS:127.0.0.1"}),
    "limited-good": ("inter-limited", {"names": "DNS:a.allowed.test"}),
    "limited-bad": ("inter-limited", {}),
    "limited-deep": ("inter-below-limited", {}),
    "limited-deep-good": ("inter-below-limited", {"names": "DNS:a.allowed.test"}),
    "limited-excluded": ("inter-excluding", {}),
    "limited-address": ("inter-address", {"names": "IP:127.0.0.1"}),
    "under-client": ("inter-client", {}),
    "under-again": ("inter-again", {}),
    "under-again-deep": ("inter-below-again", {}),
    "under-no-ca": ("inter-no-ca", {}),
    "under-short": ("inter-short", {}),
    "under-no-sign": ("inter-no-sign", {}),
    "under-weak": ("inter-weak", {}),
    "any-use": ("inter", {"use": "extendedKeyUsage=anyExtendedKeyUsage"}),
    "client-only": ("inter", {"use": "extendedKeyUsage=clientAuth"}),
    "path-length": ("inter-long", {}),
    "from-leaf": ("good", {}),
    "sha1": ("inter", {"digest": "sha1"}),
    "under-sha1": ("inter-sha1", {}),
    "under-expired": ("inter-expired", {}),
    "rsa-1024": ("inter", {"key": RSA_1024}),
    "revoked": ("inter", {}),
}


def openssl(folder, *arguments):
    """Run it: what it prints."""
    answer = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True,
                            check=False)
    if answer.returncode != 0:
        sys.exit(f"openssl {' '.join(arguments)}\n{answer.stderr}")
    return answer.stdout


def write(folder, name, text):
    """A small file."""
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        file.write(text)


def read(folder, name):
    """One of ours."""
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return file.read()


def issue(folder, name, issuer, extensions, options):
    """NAME.key, NAME.crt, NAME.chain (without what signs itself)."""
    subject = options.get("subject", f"/CN={NAME if name in LEAVES else name}")
    openssl(folder, "genpkey", "-algorithm", *options.get("key", EC), "-out", f"{name}.key")
    openssl(folder, "req", "-new", "-config", "config", "-key", f"{name}.key", "-subj", subject,
            "-out", f"{name}.csr")
    write(folder, f"{name}.ext", "\n".join(extensions) + "\n")
    signer = ["-selfsign", "-keyfile", f"{name}.key"] if issuer is None else [
        "-cert", f"{issuer}.crt", "-keyfile", f"{issuer}.key"]
    openssl(folder, "ca", "-batch", "-config", "config", *signer, "-in", f"{name}.csr", "-out",
            f"{name}.crt", "-notext", "-extfile", f"{name}.ext", "-md",
            "default" if options.get("key") == ["ED25519"] and issuer is None else
            options.get("digest", "sha256"),
            "-startdate", options.get("begin", "20200101000000Z"),
            "-enddate", options.get("end", "20490101000000Z"))
    above = "" if issuer is None or not os.path.exists(
        os.path.join(folder, f"{issuer}.chain")) else read(folder, f"{issuer}.chain")
    own = read(folder, f"{name}.crt")
    write(folder, f"{name}.chain", "" if issuer is None and name in AUTHORITIES else own + above)
    write(folder, f"{name}.pem", own + above)


def revocation_lists(folder):
    """Of inter (revoked), of inter again but long out of date, and of the root (inter)."""

    def make_list(issuer, name, *more):
        openssl(folder, "ca", "-config", "config", "-gencrl", "-cert", f"{issuer}.crt", "-keyfile",
                f"{issuer}.key", "-out", name, *more)
    def revoke(issuer, name):
        openssl(folder, "ca", "-config", "config", "-cert", f"{issuer}.crt", "-keyfile",
                f"{issuer}.key", "-revoke", name)

    revoke("inter", "revoked.crt")
    make_list("inter", "crl.pem")
    make_list("inter", "crl-expired.pem", "-crl_lastupdate", "20200101000000Z",
              "-crl_nextupdate", "20200201000000Z")
    make_list("other-root", "crl-other.pem")
    revoke("root", "inter.crt")
    make_list("root", "crl-root.pem")
    make_list("root", "crl-root-expired.pem", "-crl_lastupdate", "20200101000000Z",
              "-crl_nextupdate", "20200201000000Z")
    for name in ("root", "root-expired"):
        write(folder, f"crl-inter{name.removeprefix('root')}.pem",
              read(folder, "crl.pem") + read(folder, f"crl-{name}.pem"))


def main():
    """All of it, in a new folder."""
    folder = os.path.abspath(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write(folder, "config", CONFIG.format(folder=folder))
    write(folder, "index", "")
    write(folder, "serial", "1000\n")
    write(folder, "crlnumber", "1000\n")
    for name, (issuer, options) in AUTHORITIES.items():
        issue(folder, name, issuer, options.get("extensions", CA), options)
    for name, (issuer, options) in LEAVES.items():
        names = options.get("names", f"DNS:{NAME}")
        critical = "critical," if options.get("critical") else ""
        issue(folder, name, issuer, [*LEAF, options.get("use", SERVER),
                                     *([f"subjectAltName={critical}{names}"] if names else [])],
              options)
    issue(folder, "client", "inter", [*LEAF, "extendedKeyUsage=clientAuth",
                                      "subjectAltName=DNS:client.example.test"],
          {"subject": "/CN=client"})
    openssl(folder, "pkey", "-in", "good.key", "-aes128", "-passout", "pass:secret", "-out",
            "encrypted.key")
    for end in ("pem", "key"):  # a server that forgot what stands above its leaf
        write(folder, f"alone.{end}", read(folder, "good.crt" if end == "pem" else "good.key"))
    revocation_lists(folder)
    hashed = os.path.join(folder, "hashed")  # a folder as c_rehash(1) leaves it
    os.mkdir(hashed)
    write(hashed, openssl(folder, "x509", "-hash", "-noout", "-in", "root.crt").strip() + ".0",
          read(folder, "root.crt"))
    write(folder, "garbage.pem", "this is no certificate\n")
    write(folder, "stamp", "")


main()
