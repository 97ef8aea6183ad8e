"""Signed jobs: who may have something run, and what is refused."""

from __future__ import annotations

import datetime
import sys
from base64 import b64decode, b64encode
from typing import Any

import psycopg
import pytest

from pgtasks import Celery, chord
from pgtasks.exceptions import ImproperlyConfigured, SecurityError
from pgtasks.security.serialization import DEFAULT_SEPARATOR, SecureSerializer
from pgtasks.security.utils import cryptography


@pytest.fixture
def app():
    with Celery("signed", broker="memory://", set_as_current=False) as app:
        yield app


@pytest.fixture
def _serializers_as_they_were():
    from kombu.serialization import registry

    before = set(registry._disabled_content_types)
    yield
    registry._disabled_content_types = before


@pytest.mark.usefixtures("_serializers_as_they_were")
class TestSettings:
    def test_must_ask_for_it(self, app) -> None:
        with pytest.raises(ImproperlyConfigured, match="task_serializer = 'auth'"):
            app.setup_security()

    def test_must_name_key_certificate_and_store(self, app) -> None:
        app.conf.update(task_serializer="auth", accept_content=["auth"])

        with pytest.raises(
            ImproperlyConfigured, match="security_key, security_certificate"
        ):
            app.setup_security()


def test_without_its_package_it_says_what_to_install(monkeypatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(ImproperlyConfigured, match="pip install cryptography"):
        cryptography("x509")


class Signer:
    """Signs with a secret that it shares with itself alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_id(self) -> str:
        return self.name

    def sign(self, data: bytes, digest: Any) -> bytes:
        return self.name.encode() + data[::-1]

    def verify(self, data: bytes, signature: bytes, digest: Any) -> None:
        if signature != self.sign(data, digest):
            raise SecurityError("Bad signature")


class TestTheSerializer:
    @pytest.fixture(autouse=True)
    def _no_digest(self, monkeypatch) -> None:
        monkeypatch.setattr(
            "pgtasks.security.serialization.get_digest_algorithm", lambda name: name
        )

    @pytest.fixture
    def auth(self):
        me = Signer("me")
        return SecureSerializer(me, me, {b"me": me})

    def test_reads_what_it_wrote(self, auth) -> None:
        for value in (1, "text", {"a": [1, None]}, DEFAULT_SEPARATOR.decode()):
            assert auth.deserialize(auth.serialize(value)) == value

    def test_refuses_what_nobody_known_has_signed(self, auth) -> None:
        stranger = Signer("stranger")
        theirs = SecureSerializer(stranger, stranger, {}).serialize(1)

        with pytest.raises(SecurityError, match="stranger"):
            auth.deserialize(theirs)

    @pytest.mark.parametrize("data", ["", "bad data", b64encode(b"x\x00\x01y").decode()])
    def test_refuses_what_is_not_its_own(self, auth, data) -> None:
        with pytest.raises(SecurityError):
            auth.deserialize(data)

    def test_refuses_signed_json_that_calls_itself_pickle(self, auth) -> None:
        signer, signature, signed = b64decode(auth.serialize(1)).split(DEFAULT_SEPARATOR)
        kind, encoding, body = b64decode(signed).split(DEFAULT_SEPARATOR)
        assert b64decode(kind) == b"application/json"
        pickle = b64encode(b"application/x-python-serialize")
        forged = DEFAULT_SEPARATOR.join((pickle, encoding, body))
        packed = DEFAULT_SEPARATOR.join((signer, signature, b64encode(forged)))

        with pytest.raises(SecurityError, match="Bad signature"):
            auth.deserialize(b64encode(packed))


@pytest.fixture
def papers(tmp_path):
    """A key, its certificate, and the folder of those to trust."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "me")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, now - day, now + day)
    ).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, plain[1], plain[0]))
    (tmp_path / "trusted").mkdir()
    path = tmp_path / "trusted" / "me.pem"
    path.write_bytes(certificate.public_bytes(pem))
    return {
        "security_key": str(tmp_path / "key.pem"),
        "security_certificate": str(path),
        "security_cert_store": str(tmp_path / "trusted"),
    }


@pytest.mark.usefixtures("_serializers_as_they_were")
def test_the_digest_is_that_of_the_settings_unless_one_is_given(
    app, papers, monkeypatch
) -> None:
    digests = []
    monkeypatch.setattr(
        "pgtasks.security.register_auth", lambda *args: digests.append(args[-2])
    )
    monkeypatch.setattr("pgtasks.security.registry._set_default_serializer", print)
    app.conf.update(
        task_serializer="auth", accept_content=["auth"], security_digest="sha512", **papers
    )

    app.setup_security(["json"])
    app.setup_security(["json"], digest="sha384")

    assert digests == ["sha512", "sha384"]


@pytest.mark.usefixtures("_serializers_as_they_were")
def test_a_signed_job_runs_and_no_other(app, papers) -> None:
    from kombu.exceptions import ContentDisallowed
    from kombu.serialization import registry

    app.conf.update(
        task_serializer="auth",
        accept_content=["auth"],
        result_accept_content=["json"],
        result_backend="cache+memory://",
        **papers,
    )
    app.setup_security(["json"])
    try:

        @app.task(shared=False)
        def add(x, y):
            return x + y

        assert add.apply((1, 2)).get() == 3
        sent = add.delay(1, 2)
        assert sent.id
        with pytest.raises(ContentDisallowed, match="accept_content does not list"):
            add.apply_async((1, 2), serializer="json")
    finally:
        registry._set_default_serializer("json")
        registry.unregister("auth")


# ── what a signature is for ─────────────────────────────────────────────────────────────


@pytest.fixture
def signed(postgres_app, papers, _serializers_as_they_were):
    """An application on PostgreSQL that signs, with tasks for work-flows."""
    from kombu.serialization import registry

    app = postgres_app
    app.conf.update(
        task_serializer="auth",
        accept_content=["auth"],
        result_accept_content=["json"],
        **papers,
    )
    app.setup_security(["json"])

    @app.task(name="tests.add")
    def add(x, y):
        return x + y

    @app.task(name="tests.total")
    def total(numbers):
        return sum(numbers)

    @app.task(name="tests.moody", bind=True, max_retries=3)
    def moody(self, x):
        if not self.request.retries:
            raise self.retry(args=(x + 1,), countdown=0)
        return x

    yield app
    registry._set_default_serializer("json")
    registry.unregister("auth")


def forge(app: Celery, statement: str, *params: Any) -> None:
    with psycopg.connect(app.database.url) as connection:
        assert connection.execute(statement, params).rowcount == 1


def test_signed_work_flows_run(signed, desk) -> None:
    add, moody, total = (
        signed.tasks[f"tests.{name}"] for name in ("add", "moody", "total")
    )

    line = (add.s(1, 2) | moody.s() | add.s(10)).delay()
    sum_of_all = chord([add.s(1, 1), moody.s(5)])(total.s() | moody.s())
    many = add.delay_many([(1, 1), (2, 2)])
    desk(signed).work_off()

    assert line.get(timeout=5) == 14
    assert sum_of_all.get(timeout=5) == 9
    assert many.get(timeout=5) == [2, 4]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ('embed = \'{"callbacks": [{"task": "tests.add", "args": [1]}]}\'', "work-flow"),
        ("task = 'tests.total'", "task"),
        ("task_id = 'another'", "id"),
    ],
)
def test_signed_arguments_are_good_for_one_job_only(signed, desk, change, what) -> None:
    add = signed.tasks["tests.add"]
    result = add.delay(1, 2)

    forge(signed, f"update pgtasks.jobs set {change} where task_id = %s", result.id)
    [outcome] = desk(signed).work_off()

    assert outcome.state == "discarded"
    assert outcome.error.kind == "SecurityError"
    assert f"not for this {what}" in outcome.error.message
    assert outcome.follow_ups == []


def test_a_job_that_a_row_was_copied_from_is_not_run_twice_by_the_copy(
    signed, desk
) -> None:
    add = signed.tasks["tests.add"]
    result = add.delay(1, 2)
    forge(
        signed,
        "insert into pgtasks.jobs (task, task_id, body, content_type, content_encoding)"
        " select task, 'copy', body, content_type, content_encoding from pgtasks.jobs"
        " where task_id = %s",
        result.id,
    )

    desk(signed).work_off()

    assert result.get(timeout=5) == 3
    with pytest.raises(SecurityError):
        signed.AsyncResult("copy").get(timeout=5)
