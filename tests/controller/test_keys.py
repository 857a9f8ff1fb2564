import stat
import time

import asyncssh
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from af_hub.controller.keys import BadKey, ClusterKeys, UserCA, new_cluster_id

CLUSTER = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def user_ca(tmp_path):
    return UserCA(tmp_path)


@pytest.fixture
def keys(tmp_path, user_ca):
    found = ClusterKeys(tmp_path, CLUSTER)
    found.make(user_ca, time.time() + 3600)
    return found


def a_csr(key=None, name="controller"):
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = csr.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def an_ssh_key(kind="ssh-ed25519"):
    return asyncssh.generate_private_key(kind).export_public_key().decode()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def common_name(certificate):
    return certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_ids_are_128_random_bits():
    ids = {new_cluster_id() for _ in range(100)}
    assert len(ids) == 100 and all(len(id_) == 32 and int(id_, 16) >= 0 for id_ in ids)


def test_everything_is_private(tmp_path, keys):
    assert mode(tmp_path) == mode(keys.folder) == mode(keys.folder.parent) == 0o700
    assert {mode(path) for path in keys.folder.iterdir()} == {0o600}
    assert mode(tmp_path / "user_ca") == 0o600
    assert {path.name for path in keys.folder.iterdir()} >= {"ssh.key", "ssh.cert", "tls-ca.pem", "tls-worker.key"}


def test_a_second_start_keeps_the_ca(tmp_path, user_ca):
    before = user_ca.public_path.read_text()
    assert UserCA(tmp_path).public_path.read_text() == before


def test_making_twice_keeps_the_keys_and_removing_twice_is_fine(keys, user_ca):
    before = keys.path("ssh.key").read_bytes()
    keys.make(user_ca, time.time() + 9999)
    assert keys.path("ssh.key").read_bytes() == before
    keys.remove()
    keys.remove()
    assert not keys.exist()


@pytest.mark.parametrize("role, serves", [("scheduler", True), ("worker", True), ("controller", False)])
def test_the_role_is_in_the_certificate(keys, role, serves):
    certificate = x509.load_pem_x509_certificate(keys.path(f"tls-{role}.pem").read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(keys.path("tls-ca.pem").read_bytes()))
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert common_name(certificate) == role and names.get_values_for_type(x509.DNSName) == [role]
    assert (ExtendedKeyUsageOID.SERVER_AUTH in uses) == serves
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_the_jobs_ssh_certificate_names_this_cluster_only(keys, user_ca):
    certificate = asyncssh.read_certificate(keys.path("ssh.cert"))
    assert certificate.principals == [f"job:{CLUSTER}"]
    # asyncssh keeps what a certificate permits there; nothing public tells it.
    assert set(certificate.options) == {"permit-port-forwarding", "principals"} or set(certificate.options) == {
        "permit-port-forwarding"
    }
    assert certificate.signing_key.export_public_key().split()[1] == user_ca.public_path.read_bytes().split()[1]


def test_a_session_gets_certificates_for_its_own_keys_and_nothing_that_it_asks_for(keys, user_ca):
    until = time.time() + 60
    got = keys.certify_session(user_ca, an_ssh_key(), a_csr(name="controller"), until)
    tls = x509.load_pem_x509_certificate(got.tls_certificate.encode())
    assert common_name(tls) == "client"
    assert not tls.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert got.expires_at == int(until) == int(tls.not_valid_after_utc.timestamp())
    assert asyncssh.import_certificate(got.ssh_certificate).principals == [f"session:{CLUSTER}"]
    assert "PRIVATE" not in repr(got)


@pytest.mark.parametrize(
    "ssh_key, csr, what",
    [
        pytest.param("", None, "ssh_public_key", id="no ssh key"),
        pytest.param("ssh-ed25519 AAAA", None, "ssh_public_key", id="half an ssh key"),
        pytest.param("rsa", None, "kind ssh-rsa", id="another kind of ssh key"),
        pytest.param(None, "", "tls_csr", id="no csr"),
        pytest.param(None, "rsa", "another kind", id="an rsa csr"),
        pytest.param(None, "broken", "tls_csr", id="csr with a changed byte"),
    ],
)
def test_bad_keys_are_refused_with_a_sentence(keys, user_ca, ssh_key, csr, what):
    if ssh_key is None:
        ssh_key = an_ssh_key()
    elif ssh_key == "rsa":
        ssh_key = an_ssh_key("ssh-rsa")
    if csr is None:
        csr = a_csr()
    elif csr == "rsa":
        csr = a_csr(rsa.generate_private_key(65537, 2048))
    elif csr == "broken":
        csr = a_csr()[:-60] + "AAAA" + a_csr()[-56:]
    with pytest.raises(BadKey, match=what):
        keys.certify_session(user_ca, ssh_key, csr, time.time() + 60)


@pytest.mark.parametrize("cluster", ["", "..", "../../etc", CLUSTER.upper(), CLUSTER + "\n", CLUSTER[:-1]])
def test_only_ids_name_folders(tmp_path, cluster):
    with pytest.raises(BadKey):
        ClusterKeys(tmp_path, cluster)


def test_an_authority_that_somebody_else_keeps(tmp_path):
    kept = UserCA(tmp_path / "kept")
    used = UserCA(tmp_path / "state", kept.path)
    assert used.public_path.read_bytes() == kept.public_path.read_bytes()
    assert not (tmp_path / "state" / "user_ca").exists()
    with pytest.raises(OSError, match="missing"):
        UserCA(tmp_path / "state", tmp_path / "missing")
