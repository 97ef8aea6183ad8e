import pickle

import psycopg
import pytest

from pgtasks.exceptions import PgtasksError
from pgtasks.storage import errors
from pgtasks.storage.errors import classify, classify_connect

SERVER = "postgresql://someone@somewhere/db"


def raised(sqlstate: str) -> psycopg.Error:
    return psycopg.errors.lookup(sqlstate)("the server's words")


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("08006", errors.StorageUnavailable),
        ("08P01", errors.StorageUnavailable),
        ("25006", errors.StorageUnavailable),
        ("25P03", errors.StorageUnavailable),
        ("25P04", errors.StorageUnavailable),
        ("26000", errors.StorageUnavailable),
        ("42P05", errors.StorageUnavailable),
        ("53300", errors.StorageUnavailable),
        ("57P01", errors.StorageUnavailable),
        ("57P02", errors.StorageUnavailable),
        ("57P03", errors.StorageUnavailable),
        ("57P05", errors.StorageUnavailable),
        ("40001", errors.StorageBusy),
        ("40P01", errors.StorageBusy),
        ("55P03", errors.StorageBusy),
        ("57014", errors.StorageBusy),
        ("53100", errors.StorageFull),
        ("53200", errors.StorageFull),
        ("58030", errors.StorageFull),
        ("21000", errors.BadData),
        ("22P02", errors.BadData),
        ("22003", errors.BadData),
        ("23505", errors.BadData),
        ("54001", errors.BadData),
        ("54000", errors.BadData),
        ("28P01", errors.StorageMisconfigured),
        ("3D000", errors.StorageMisconfigured),
        ("3F000", errors.StorageMisconfigured),
        ("42P01", errors.StorageMisconfigured),
        ("42703", errors.StorageMisconfigured),
        ("42501", errors.StorageMisconfigured),
        ("42601", errors.StorageError),
        ("XX000", errors.StorageError),
    ],
)
def test_every_code_says_what_to_do_about_it(
    sqlstate: str, kind: type[errors.StorageError]
) -> None:
    found = classify(raised(sqlstate), SERVER)

    assert type(found) is kind
    assert found.sqlstate == sqlstate
    assert sqlstate in str(found)
    assert SERVER in str(found)


def test_a_lost_connection_has_no_code_and_is_unavailable() -> None:
    killed = psycopg.OperationalError("server closed the connection unexpectedly")
    closed = psycopg.InterfaceError("the connection is closed")

    assert type(classify(killed, SERVER)) is errors.StorageUnavailable
    assert type(classify(closed, SERVER)) is errors.StorageUnavailable
    assert not classify(killed, SERVER).not_run


def test_what_the_driver_cannot_send_is_bad_data() -> None:
    nul = psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    surrogate = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    assert type(classify(nul, SERVER)) is errors.BadData
    assert type(classify(surrogate, SERVER)) is errors.BadData


def test_a_standby_is_left_for_a_new_connection_and_nothing_was_done() -> None:
    assert classify(raised("25006"), SERVER).not_run
    assert not classify(raised("57P01"), SERVER).not_run


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        ('password authentication failed for user "x"', "StorageMisconfigured", "password"),
        ('database "x" does not exist', "StorageMisconfigured", "createdb"),
        ('role "x" does not exist', "StorageMisconfigured", "createuser"),
        ("no pg_hba.conf entry for host", "StorageMisconfigured", "pg_hba.conf"),
        ('unrecognized configuration parameter "x"', "StorageMisconfigured", "options"),
        ('invalid sslmode value: "x"', "StorageMisconfigured", "ssl"),
        ("Connection refused", "StorageUnavailable", "Start the server"),
        ("No such file or directory", "StorageUnavailable", "Start the server"),
        ("the database system is starting up", "StorageUnavailable", "by itself"),
        ("sorry, too many clients already", "StorageUnavailable", "max_connections"),
        ("failed to resolve host 'x'", "StorageUnavailable", "host name"),
        ("session is read-only", "StorageUnavailable", "primary"),
        ("connection timeout expired", "StorageUnavailable", "firewall"),
        ("FATAL: la base de donnees demarre", "StorageUnavailable", ""),
    ],
)
def test_a_failed_connect_is_told_by_its_words(text: str, kind: str, remedy: str) -> None:
    found = classify_connect(psycopg.OperationalError(text), SERVER)

    assert type(found).__name__ == kind
    assert remedy in str(found)
    assert found.not_run
    assert found.sqlstate is None


def test_errors_survive_the_way_between_processes() -> None:
    found = classify(raised("25006"), SERVER).after(3, 1.5)

    copy = pickle.loads(pickle.dumps(found))

    assert str(copy) == str(found)
    assert (copy.sqlstate, copy.attempts, copy.not_run) == ("25006", 3, True)
    assert "3 tries in 1.5 s" in str(copy)


def test_they_are_all_in_the_family() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]

    for kind in kinds:
        if isinstance(kind, type):
            assert issubclass(kind, PgtasksError)
            assert issubclass(kind, errors.StorageError)
