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

-- name: paused
-- What is said about a queue goes before what is said about all of them.
select extract(epoch from paused_at)::float8
from (select queue, paused, paused_at
      from pgtasks.queues
      where queue in (%(queue)s::text, '*') and node = '' and paused is not null
      order by queue = '*'
      limit 1) as said
where paused and paused_at is not null

-- name: gates
-- The limits that a job must go through, and that of its queue if there is one.
select wanted.gate, wanted.gate = job.parked, coalesce(gate.running, 0), known.concurrency,
       known.rate, known.period, coalesce(extract(epoch from gate.free_at), 0)::float8
from pgtasks.jobs as job
cross join lateral (
    select unnest(job.limits) as gate
    union
    select 'queue:' || job.queue where job.parked is not null
    union
    select 'queue:' || job.queue
    where exists (select from pgtasks.queues where queue = job.queue and node = '' and limited)
) as wanted
join pgtasks.limits as known on known.name = split_part(wanted.gate, E'\x1f', 1)
left join pgtasks.gates as gate on gate.name = wanted.gate
where job.id = %(id)s::bigint
order by wanted.gate is not distinct from job.parked desc, wanted.gate

-- name: turn
-- Another one has the turn that this job waits for.
select holder.task_id
from pgtasks.parked_jobs as parked
join pgtasks.turns as turn on turn.key = parked.key
cross join lateral (select task_id from pgtasks.jobs
                    where jobs.id = turn.job_id and jobs.claim_token = turn.claim_token
                    offset 0) as holder
where parked.job_id = %(id)s::bigint
