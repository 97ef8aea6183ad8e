from __future__ import annotations

import json
import pickle

import pytest

from pgtasks import states
from pgtasks.states import state


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        ("SUCCESS", "FAILURE"),
        ("FAILURE", "PROGRESS"),
        ("PROGRESS", "REVOKED"),
        ("REVOKED", "STARTED"),
        ("STARTED", "RECEIVED"),
        ("RECEIVED", "REJECTED"),
        ("REJECTED", "RETRY"),
        ("RETRY", "PENDING"),
    ],
)
def test_states_compare_by_what_they_claim(stronger: str, weaker: str) -> None:
    assert state(stronger) > state(weaker)
    assert state(stronger) >= weaker
    assert state(weaker) < stronger
    assert state(weaker) <= state(stronger)


def test_two_custom_states_claim_the_same() -> None:
    assert not state("PROGRESS") > state("UPLOADING")
    assert state("PROGRESS") >= state("UPLOADING")


def test_a_state_is_a_text_everywhere_else() -> None:
    assert state("SUCCESS") == "SUCCESS"
    assert json.dumps(state("SUCCESS")) == '"SUCCESS"'
    assert pickle.loads(pickle.dumps(state("SUCCESS"))) == "SUCCESS"


def test_every_job_state_shows_as_one_of_celerys() -> None:
    assert set(states.STATUS_OF_JOB_STATE) == states.JOB_STATES
    assert set(states.STATUS_OF_JOB_STATE.values()) <= states.ALL_STATES


def test_a_row_that_says_more_is_believed() -> None:
    assert states.status_of("executing") == "PENDING"
    assert states.status_of("executing", "PROGRESS") == "PROGRESS"


def test_no_row_means_pending() -> None:
    assert states.status_of(None) == "PENDING"


def test_a_task_is_ready_exactly_when_its_job_is_finished() -> None:
    ready = {
        job
        for job, task in states.STATUS_OF_JOB_STATE.items()
        if task in states.READY_STATES
    }

    assert ready == states.FINISHED_JOB_STATES


def test_the_sets_are_celerys() -> None:
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    assert {"RETRY", "FAILURE", "REVOKED"} == states.EXCEPTION_STATES
    assert {"FAILURE", "REVOKED"} == states.PROPAGATE_STATES
    assert states.READY_STATES.isdisjoint(states.UNREADY_STATES)
