-- name: surroundings
-- What keeps a job waiting that may run: how many go before it in its queue (counted up to
-- a bound), and whether somebody holds its row locked, which claims step over.
select (select count(*)
        from (select
              from pgtasks.jobs as other
              where other.state = 'available' and other.queue = job.queue
                and (other.priority, other.scheduled_at, other.id)
                  < (job.priority, job.scheduled_at, job.id)
              limit %(most)s) as before),
       not exists (select from (select id from pgtasks.jobs where id = %(id)s::bigint
                                for update skip locked) as free),
       extract(epoch from clock_timestamp())::float8
from pgtasks.jobs as job
where job.id = %(id)s::bigint

-- name: now
select extract(epoch from clock_timestamp())::float8

-- name: occupied
-- What workers run now, the longest-running first, and how many that are of each.
select worker::text, task, task_id, queue, since, running
from (
    select worker, task, task_id, queue,
           extract(epoch from clock_timestamp())::float8 - extract(epoch from attempted_at)::float8 as since,
           count(*) over (partition by worker) as running,
           row_number() over (partition by worker order by attempted_at, id) as place
    from pgtasks.jobs
    where state = 'executing' and worker = any(%(workers)s::uuid[])
) as executing
where place <= 3
order by worker, place

-- name: members
-- Who has not ended yet of those for whom a job waits.
select task_id, task, state::text, count(*) over ()
from pgtasks.jobs
where chord = %(chord)s::text
order by id + 0
limit 10

-- name: has_queues
select to_regclass('pgtasks.queues') is not null

-- name: paused
-- Whichever of its columns has the name: the table is another feature's.
select extract(epoch from (row ->> 'paused_at')::timestamptz)::float8
from (select to_jsonb(queue) as row from pgtasks.queues as queue) as queues
where %(queue)s::text in (row ->> 'name', row ->> 'queue')
  and row ->> 'paused_at' is not null
