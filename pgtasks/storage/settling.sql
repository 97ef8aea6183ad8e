-- Statements of jobs that settle themselves, in a transaction of their own or a lent one.

-- name: hasten
-- From the settlement to the commit the job's row is locked. A process that is stopped in
-- between must not hold it for ever, nor may the usual limit of a session be none.
select set_config('idle_in_transaction_session_timeout', '15000', true)

-- name: standing
-- The answer to a commit was lost. This waits until that transaction is over, however it
-- ended, for it has the row locked; then the row is as it was, or is ours no more.
select id
from pgtasks.jobs
where id = %(id)s::bigint
  and claim_token = %(token)s::uuid
  and state in ('executing', 'available')
for update

-- name: mark
-- What a task does when it is run inside of a transaction that is open already.
savepoint pgtasks_body

-- name: keep
release savepoint pgtasks_body

-- name: undo
rollback to savepoint pgtasks_body
