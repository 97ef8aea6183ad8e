-- name: register
insert into pgtasks.workers (
    id, name, hostname, pid, machine, process_started, begun_file, lease, expires_at,
    queues, pool, concurrency, version, info
)
values (
    %(id)s::uuid, %(name)s::text, %(hostname)s::text, %(pid)s, %(machine)s::text,
    %(process_started)s, %(begun_file)s::text, %(lease)s,
    clock_timestamp() + make_interval(secs => %(lease)s),
    %(queues)s::text[], %(pool)s::text, %(concurrency)s, %(version)s::text, %(info)s::text::jsonb
)
returning id::text

-- name: beat
-- No row back: this worker was declared dead meanwhile and must begin anew (R16).
update pgtasks.workers
set beat = beat + 1, expires_at = clock_timestamp() + make_interval(secs => lease)
where id = %(id)s::uuid and dead_at is null and stopped_at is null
returning beat

-- name: describe
update pgtasks.workers
set queues = %(queues)s::text[], concurrency = %(concurrency)s, info = info || %(info)s::text::jsonb
where id = %(id)s::uuid
returning id::text

-- name: sleep
-- Seen by inserts at once, and not worth a write to disk: it is said anew soon enough.
update pgtasks.workers
set asleep = %(asleep)s::boolean
where id = %(id)s::uuid and asleep <> %(asleep)s::boolean and dead_at is null and stopped_at is null
returning id::text, set_config('synchronous_commit', 'off', true)

-- name: stop
update pgtasks.workers
set stopped_at = clock_timestamp(), asleep = false
where id = %(id)s::uuid and stopped_at is null
returning id::text

-- name: live
-- `lapsed` alone is no verdict: a restart of the server or a jump of its clock lapses
-- every lease at once. Whoever sweeps must also have seen `beat` stand still (R14).
select id::text, name, hostname, pid, machine, process_started, begun_file, beat, lease,
       expires_at < clock_timestamp() as lapsed, queues, pool, concurrency, version,
       extract(epoch from started_at)::float8,
       extract(epoch from clock_timestamp() - expires_at)::float8 + lease as silence,
       asleep, info::text
from pgtasks.workers
where dead_at is null and stopped_at is null
order by name, started_at

-- name: look
-- The one question of an idle worker: who lives, and is there anything to do for anybody?
-- * orphaned: jobs execute under a worker that is absent, dead or stopped;
-- * held: the table says that we hold jobs, with a second's grace for claims on their way;
-- * uncounted: chords that no job belongs to, or bodies that wait for one that never was;
-- * ready: jobs wait in our queues; due: seconds until the next scheduled one;
-- * told: there are commands for us.
-- It writes nothing and locks nothing. Each service then asks what it acts upon by itself,
-- so that an answer which is old by then does no harm (R26).
-- In one row with each worker that lives: of a single one in most fleets.
with sight as materialized (
    select exists (select from pgtasks.jobs as job
                   where job.state = 'executing'
                     -- An array, not a join, which may look up the worker of each job.
                     and job.worker <> all(array(select id from pgtasks.workers
                                                 where dead_at is null and stopped_at is null))
                  ) as orphaned,
           exists (select from pgtasks.jobs as job
                   where job.state = 'executing' and job.worker = %(worker)s::uuid
                     and job.attempted_at < (select clock_timestamp() - interval '1 second')) as held,
           exists (select from pgtasks.chords as chord
                   where chord.inserted_at < (select clock_timestamp() - make_interval(secs => %(age)s))
                     and not exists (select from pgtasks.jobs as member
                                     where member.chord = chord.id offset 0))
           or exists (select from pgtasks.jobs as body
                      where body.awaits is not null and body.state = 'suspended'
                        and body.inserted_at < (select clock_timestamp() - make_interval(secs => %(age)s))
                        and not exists (select from pgtasks.chords as chord
                                        where chord.id = body.awaits offset 0)) as uncounted,
           exists (select from unnest(%(queues)s::text[]) as mine (queue)
                   cross join lateral (select from pgtasks.jobs
                                       where jobs.state = 'available' and jobs.queue = mine.queue
                                       limit 1) as waiting) as ready,
           (select extract(epoch from scheduled_at)::float8
                   - extract(epoch from clock_timestamp())::float8
            from pgtasks.jobs
            where state in ('scheduled', 'retryable') and scheduled_at < 'infinity'
            order by scheduled_at
            limit 1) as due,
           exists (select from pgtasks.commands
                   where id > %(mark)s::bigint
                     and id <> all(%(answered)s::bigint[])
                     and inserted_at >= (select started_at from pgtasks.workers
                                         where id = %(worker)s::uuid)
                     and expires_at > clock_timestamp()
                     and (destination is null or %(name)s::text = any(destination))) as told
)
select sight.orphaned, sight.held, sight.uncounted, sight.ready, sight.due, sight.told,
       worker.id::text, worker.name, worker.hostname, worker.pid, worker.machine,
       worker.process_started, worker.begun_file, worker.beat, worker.lease,
       worker.expires_at < clock_timestamp(), worker.queues, worker.pool, worker.concurrency,
       worker.version, extract(epoch from worker.started_at)::float8,
       extract(epoch from clock_timestamp() - worker.expires_at)::float8 + worker.lease,
       worker.asleep, '{}'
from sight
left join pgtasks.workers as worker on worker.dead_at is null and worker.stopped_at is null
order by worker.name, worker.started_at

-- name: bury
-- Only if the beat that was seen to stand still is still the last one.
update pgtasks.workers
set dead_at = clock_timestamp(), asleep = false
where id = %(id)s::uuid and beat = %(beat)s and dead_at is null and stopped_at is null
returning id::text

-- name: graves
-- Workers that left jobs behind, for the sweeper to read what they had begun.
select worker.id::text, worker.begun_file, worker.machine
from pgtasks.workers as worker
where (worker.dead_at is not null or worker.stopped_at is not null)
  and exists (select from pgtasks.jobs as job where job.state = 'executing' and job.worker = worker.id)

-- name: rescue
-- A sweep, not an event: whatever executes under a worker that is absent, dead or
-- stopped is given back. It can be repeated, resumed and run by anyone at once (R15).
-- * Not begun: back in the queue, attempt given back, whatever the task's settings.
-- * May run again: back in the queue; the token stays, so that a late result still
--   counts while nobody has claimed it (R10).
-- * Must not run again: handed to the sweeping worker, which settles it as discarded
--   like any other end, with its error callbacks. If that one dies too, the next
--   sweep finds it again.
with lost as materialized (
    select job.id
    from pgtasks.jobs as job
    left join pgtasks.workers as worker on worker.id = job.worker
    where job.state = 'executing'
      and (worker.id is null or worker.dead_at is not null or worker.stopped_at is not null)
    order by job.id
    limit %(limit)s
    for update of job skip locked
)
update pgtasks.jobs as job
set (state, worker, abandoned, claim_token, attempt, lost, custom_state, custom_meta) = (
    select case when verdict.waiting or verdict.again then 'available' else 'executing' end::pgtasks.job_state,
           case when verdict.waiting or verdict.again then null else %(worker)s::uuid end,
           not (verdict.waiting or verdict.again),
           case when verdict.waiting then null else job.claim_token end,
           greatest(job.attempt - verdict.waiting::int, 0),
           -- One row that overflows would keep all others from being rescued (R5).
           least(job.lost, 2147483646) + (not verdict.waiting and not job.abandoned)::int,
           null::text, null::text
    from (
        select job.worker = any(%(traced)s::uuid[]) and job.id <> all(%(begun)s::bigint[])
                   and not job.abandoned as waiting,
               job.rerun and job.lost < %(max_lost)s - 1
                   and (job.max_attempts is null or job.attempt < job.max_attempts) as again
    ) as verdict
)
where job.id = any(array(select id from lost))
returning job.id, job.task_id, job.task, job.queue, job.priority, job.attempt, job.retries,
          job.max_attempts, job.crashes, job.lost,
          case when octet_length(job.args) <= 67108864 then job.args end,
          case when octet_length(job.kwargs) <= 67108864 then job.kwargs end,
          case when octet_length(job.body) <= 67108864 then job.body end,
          job.content_type, job.content_encoding,
          greatest(octet_length(job.args), octet_length(job.kwargs), octet_length(job.body),
                   octet_length(job.headers), octet_length(job.embed)),
          extract(epoch from job.scheduled_at)::float8,
          extract(epoch from job.inserted_at)::float8,
          extract(epoch from job.expires_at)::float8,
          false,
          job.time_limit, job.soft_time_limit, job.ignore_result,
          job.root_id, job.parent_id, job.group_id, job.group_index, job.chord, job.awaits,
          job.origin,
          case when octet_length(job.headers) <= 67108864 then job.headers end,
          case when octet_length(job.embed) <= 67108864 then job.embed end,
          case when pg_column_size(job.meta) <= 67108864 then nullif(job.meta, '{}')::text end,
          nullif(job.tags, '{}'),
          job.claim_token::text, null::text, job.state::text

-- name: audit
-- What the table says this worker holds; a second's grace for claims on their way (R13).
select id, claim_token::text, task_id
from pgtasks.jobs
where worker = %(id)s::uuid and state = 'executing'
  and attempted_at < clock_timestamp() - interval '1 second'
