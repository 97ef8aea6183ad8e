"""``pgtasks upgrade settings``: old names of settings in files as programs have them."""

from __future__ import annotations

import json

import pytest

from pgtasks.cli.invocation import Failure
from pgtasks.cli.upgrade import changes_of


def names(source, **options):
    return [(change.old, change.new) for change in changes_of(source, **options)]


@pytest.mark.parametrize(
    "source",
    [
        "CELERY_ALWAYS_EAGER = True\n",
        "  CELERY_ALWAYS_EAGER: bool = True\n".lstrip(),
        "app.conf.CELERY_ALWAYS_EAGER = True\n",
        "app.conf.update(CELERY_ALWAYS_EAGER=True)\n",
        "app.conf.update({'CELERY_ALWAYS_EAGER': True})\n",
        'app.conf["CELERY_ALWAYS_EAGER"] = True\n',
        "#CELERY_ALWAYS_EAGER = True\n",
        "x = 1  # CELERY_ALWAYS_EAGER = True\n",
        "class Config:\n    CELERY_ALWAYS_EAGER = True\n",
    ],
)
def test_a_name_is_found_where_settings_stand(source):
    assert names(source) == [("CELERY_ALWAYS_EAGER", "task_always_eager")]


@pytest.mark.parametrize(
    "source",
    [
        "url = os.environ['BROKER_URL']\n",
        "url = os.environ.get('BROKER_URL')\n",
        "text = 'set CELERY_ALWAYS_EAGER to True'\n",
        "# CELERY_ALWAYS_EAGER is what we want here\n",
        "task_always_eager = True\n",
        "MY_BROKER_URL = 1\n",
        "PLUGINS = ['mine']\n",
        "x = y['a':'BROKER_URL']\n",
    ],
)
def test_what_is_no_setting_stays(source):
    assert names(source) == []


def test_what_is_no_python_is_refused():
    with pytest.raises(Failure, match="This is no Python"):
        names("BROKER_URL = (\n")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "celeryconfig.py"
    path.write_bytes(
        b"# -*- coding: latin-1 -*-\r\n"
        b'BROKER_URL = "redis://here"  # f\xfcr alle\r\n'
        b"CELERYD_CONCURRENCY = CELERY_ACKS_LATE and 3\r\n"
        b"NAME = '''\n  two\n'''\r\n"
        b"CELERY_RESULT_BACKEND = None"
    )
    path.chmod(0o640)
    return path


def test_the_file_changes_in_nothing_else(run, config):
    before = config.read_bytes()
    result = run("upgrade", "settings", str(config))

    assert result.exit_code == 0, result.output
    assert config.read_bytes() == (
        b"# -*- coding: latin-1 -*-\r\n"
        b'broker_url = "redis://here"  # f\xfcr alle\r\n'
        b"worker_concurrency = task_acks_late and 3\r\n"
        b"NAME = '''\n  two\n'''\r\n"
        b"result_backend = None"
    )
    assert config.stat().st_mode & 0o777 == 0o640
    assert config.with_name("celeryconfig.py.orig").read_bytes() == before
    assert f"{config}:3: CELERYD_CONCURRENCY is now called worker_concurrency" in (
        result.stdout
    )


@pytest.mark.parametrize("option", ["--django", "--compat"])
def test_djangos_settings_keep_their_prefix_and_a_second_time_changes_nothing(
    run, config, option
):
    run("upgrade", "settings", str(config), option)
    text = config.read_bytes()
    again = run("upgrade", "settings", str(config), option)

    assert b"CELERY_BROKER_URL = " in text
    assert b"CELERY_WORKER_CONCURRENCY = CELERY_TASK_ACKS_LATE and 3" in text
    assert b"CELERY_RESULT_BACKEND = None" in text
    assert "Does not seem to require any changes" in again.stdout
    assert config.read_bytes() == text


def test_a_copy_is_never_overwritten_and_need_not_be_kept(run, config):
    run("upgrade", "settings", str(config))
    kept = config.with_name("celeryconfig.py.orig").read_bytes()
    config.write_text("CELERY_ACKS_LATE = 1\n")
    found = json.loads(run("upgrade", "settings", str(config), "--json").stdout)
    config.write_text("CELERY_ACKS_LATE = 1\n")
    run("upgrade", "settings", str(config), "--no-backup")

    assert config.with_name("celeryconfig.py.orig").read_bytes() == kept
    assert found["backup"] == f"{config}.orig2"
    assert found["changes"] == [
        {"line": 1, "column": 0, "old": "CELERY_ACKS_LATE", "new": "task_acks_late"}
    ]
    assert len(list(config.parent.iterdir())) == 3


def test_a_file_that_is_not_there_is_said_so(run, tmp_path):
    refused = run("upgrade", "settings", str(tmp_path / "none.py"))

    assert refused.exit_code == 66
    assert "No such file" in refused.stderr


def test_a_misspelt_upgrade_is_recognized(run):
    refused = run("upgrade", "setings")

    assert refused.exit_code == 2
    assert "No such command 'setings'. Did you mean 'settings'?" in refused.stderr
