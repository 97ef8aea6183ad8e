-- name: send
-- Commands and replies that nobody wants any more go as new ones come, so the tables
-- stay a few rows long without a janitor. The answer names the workers that are alive
-- and addressed: with the replies of all of them there is nothing left to wait for.
with expired as materialized (
    select id
    from pgtasks.commands
    where expires_at < clock_timestamp()
    order by id
    limit 1000
    for update skip locked
),
forgotten as (
    delete from pgtasks.commands as command
    using expired
    where command.id = expired.id
),
sent as (
    insert into pgtasks.commands (
        key, command, arguments, destination, wants_reply, sender, expires_at
    )
    values (
        %(key)s::uuid, %(command)s::text, %(arguments)s::text, %(destination)s::text[],
        %(wants_reply)s::boolean, %(sender)s::text,
        clock_timestamp() + make_interval(secs => %(lifetime)s::float8)
    )
    on conflict (key) do nothing
)
select pg_notify('pgtasks.control', '')::text,
       array(select worker.id::text
             from pgtasks.workers as worker
             where worker.dead_at is null and worker.stopped_at is null
               and worker.expires_at > clock_timestamp()
               and (%(destination)s::text[] is null or worker.name = any(%(destination)s::text[])))

-- name: names
select name
from pgtasks.workers
where dead_at is null and stopped_at is null and expires_at > clock_timestamp()
order by name

-- name: began
select started_at::text from pgtasks.workers where id = %(worker)s::uuid

-- name: hear
-- `since` is the worker's own start: what others were told before is not meant for it,
-- a shutdown least of all. `mark` and `answered` keep it from doing anything twice.
select id, key::text, command, arguments, wants_reply, sender
from pgtasks.commands
where id > %(mark)s::bigint
  and id <> all(%(answered)s::bigint[])
  and inserted_at >= %(since)s::timestamptz
  and expires_at > clock_timestamp()
  and (destination is null or %(name)s::text = any(destination))
order by id
limit 100

-- name: answer
with answered as (
    insert into pgtasks.replies (key, worker, name, reply, expires_at)
    values (
        %(key)s::uuid, %(worker)s::uuid, %(name)s::text, %(reply)s::text,
        clock_timestamp() + make_interval(secs => %(lifetime)s::float8)
    )
    returning key
)
select pg_notify('pgtasks.replies', key::text)::text from answered

-- name: elect
-- A command to nobody, under a key that all candidates know: the first has it.
insert into pgtasks.commands (
    key, command, arguments, destination, wants_reply, sender, expires_at
)
values (
    %(key)s::uuid, 'elected', '{}', '{}', false, %(name)s::text,
    clock_timestamp() + make_interval(secs => %(lifetime)s::float8)
)
on conflict (key) do nothing
returning id

-- name: collect
select id, worker::text, name, reply
from pgtasks.replies
where key = %(key)s::uuid and id <> all(%(known)s::bigint[])
order by id

-- name: discard
-- The replies that have been read, and those that nobody came for.
with unwanted as materialized (
    select id
    from pgtasks.replies
    where key = %(key)s::uuid or expires_at < clock_timestamp()
    order by id
    limit 1000
    for update skip locked
)
delete from pgtasks.replies as reply
using unwanted
where reply.id = unwanted.id
returning reply.id

-- name: look_up
-- Those of some ids that are not due yet, in the queues of one worker. Their states are said
-- by what they are not: else an index of all that is due would be walked through.
select task_id, task, priority,
       case when octet_length(args) <= 100000 then args end,
       case when octet_length(kwargs) <= 100000 then kwargs end,
       queue, retries,
       extract(epoch from scheduled_at)::float8,
       case when octet_length(headers) <= 100000 then headers end
from pgtasks.jobs
where task_id = any(%(task_ids)s::text[])
  and state not in ('available', 'executing', 'suspended')
  and queue = any(%(queues)s::text[])

-- name: scheduled
-- The next jobs that are not due yet, of the queues of one worker. Those that are far
-- in the future are counted in pgtasks.all_jobs, not listed here.
select task_id, task, priority,
       case when octet_length(args) <= 100000 then args end,
       case when octet_length(kwargs) <= 100000 then kwargs end,
       queue, retries,
       extract(epoch from scheduled_at)::float8,
       case when octet_length(headers) <= 100000 then headers end
from pgtasks.jobs
where state in ('scheduled', 'retryable')
  and scheduled_at between (select clock_timestamp()) and '9999-12-31'
  and queue = any(%(queues)s::text[])
order by scheduled_at
limit %(limit)s
