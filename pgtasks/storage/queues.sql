-- name: pause
-- A claim asks whether any word pauses its queue, which is cheap. So what is said here is
-- brought into that form: to pause is a row; to resume a part of what is paused makes it an
-- exception there. What is said to the fleet, or about all queues, takes back what was said
-- about a part of it before. A notification tells workers to look.
with narrower as (
    update pgtasks.queues
    set paused = null, paused_at = null, paused_by = null, but = '{}'
    where (queue = %(queue)s::text or %(queue)s::text = '*')
      and (node = %(node)s::text or %(node)s::text = '')
      and (queue, node) <> (%(queue)s::text, %(node)s::text)
      and paused is not null
),
broader as (
    update pgtasks.queues as said
    set but = array_append(said.but, part.name)
    from (select asked.queue, asked.node,
                 case when asked.queue = %(queue)s::text then '' else %(queue)s::text end
                 || case when asked.node = %(node)s::text then '' else chr(31) || %(node)s::text end as name
          from pgtasks.queues as asked) as part
    where not %(paused)s::boolean
      and said.paused
      and said.queue in (%(queue)s::text, '*') and said.node in (%(node)s::text, '')
      and (said.queue, said.node) <> (%(queue)s::text, %(node)s::text)
      and (part.queue, part.node) = (said.queue, said.node)
      and part.name <> all(said.but)
),
said as (
    insert into pgtasks.queues as said (queue, node, paused, paused_at, paused_by)
    values (%(queue)s::text, %(node)s::text, %(paused)s::boolean,
            case when %(paused)s::boolean then clock_timestamp() end,
            case when %(paused)s::boolean then %(by)s::text end)
    on conflict (queue, node) do update
    set paused = excluded.paused,
        but = '{}',
        -- Since when, not how often.
        paused_at = case when said.paused and excluded.paused then said.paused_at else excluded.paused_at end,
        paused_by = case when said.paused and excluded.paused then said.paused_by else excluded.paused_by end
)
select pg_notify('pgtasks.queues', '')::text

-- name: serve
with narrower as (
    update pgtasks.queues
    set served = null, worker_limit = null
    where queue = %(queue)s::text and %(node)s::text = '' and node <> ''
      and (served is not null or worker_limit is not null)
),
said as (
    insert into pgtasks.queues as said (queue, node, served, worker_limit)
    values (%(queue)s::text, %(node)s::text, %(served)s::boolean, %(worker_limit)s::integer)
    on conflict (queue, node) do update
    set served = excluded.served,
        worker_limit = coalesce(excluded.worker_limit, said.worker_limit)
)
select pg_notify('pgtasks.queues', '')::text

-- name: scale
with narrower as (
    update pgtasks.queues
    set worker_limit = null
    where queue = %(queue)s::text and %(node)s::text = '' and node <> '' and worker_limit is not null
),
said as (
    insert into pgtasks.queues as said (queue, node, worker_limit)
    values (%(queue)s::text, %(node)s::text, %(worker_limit)s::integer)
    on conflict (queue, node) do update set worker_limit = excluded.worker_limit
)
select pg_notify('pgtasks.queues', '')::text

-- name: claiming
-- Who may be claiming by what it read before: statements lock the tables they read before
-- they look into them, so whoever does not hold such a lock yet will see what was committed
-- by now. Claims read pgtasks.queues and write pgtasks.jobs.
select reading.virtualtransaction
from pg_catalog.pg_locks as reading
join pg_catalog.pg_locks as writing
  on writing.virtualtransaction = reading.virtualtransaction
 and writing.pid = reading.pid
 and writing.relation = 'pgtasks.jobs'::regclass
 and writing.mode = 'RowExclusiveLock'
where reading.relation = 'pgtasks.queues'::regclass
  and reading.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
  and reading.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and reading.pid <> pg_backend_pid()

-- name: waiting
-- How many jobs could be claimed from these queues, as far as somebody wants to know.
select least(count(*), %(most)s::bigint)
from unnest(%(queues)s::text[]) as wanted (queue)
cross join lateral (
    select
    from pgtasks.jobs
    where jobs.state = 'available' and jobs.queue = wanted.queue
    limit %(most)s
) as job

-- name: words
-- What concerns one worker, and whether there are limits anywhere, or jobs that have some.
with found as (
    select exists (select from pgtasks.limits)
           or exists (select from pgtasks.jobs
                      where parked is not null
                        and (state = 'available' or (state = 'suspended' and parked = '?'))
                      offset 0)
           or exists (select from pgtasks.jobs
                      where state = 'suspended' and length(parked) > 1
                      offset 0) as limits
)
select said.queue, said.node, said.paused, said.served, said.worker_limit, said.limited, found.limits
from found
left join pgtasks.queues as said on said.node in ('', %(node)s::text)

-- name: list
with counted as (
    select queue, state::text, count(*) as jobs,
           extract(epoch from clock_timestamp())::float8
           - extract(epoch from min(scheduled_at) filter (
               where state = 'available' or parked <> ''))::float8 as age
    from pgtasks.jobs
    group by queue, state
),
running as (
    select job.queue, coalesce(worker.name, job.worker::text) as name, count(*) as jobs
    from pgtasks.jobs as job
    left join pgtasks.workers as worker on worker.id = job.worker
    where job.state = 'executing'
    group by 1, 2
),
served as (
    select distinct unnest(worker.queues) as queue, worker.name
    from pgtasks.workers as worker
    where worker.dead_at is null and worker.stopped_at is null
),
named as (
    select queue from counted
    union select queue from served
    union select queue from pgtasks.queues
)
select named.queue,
       (select json_object_agg(counted.state, counted.jobs)::text from counted where counted.queue = named.queue),
       (select max(counted.age) from counted where counted.queue = named.queue),
       (select json_object_agg(running.name, running.jobs)::text from running where running.queue = named.queue),
       array(select served.name from served where served.queue = named.queue order by served.name),
       (select json_agg(json_build_object(
                   'node', said.node, 'paused', said.paused, 'but', said.but, 'served', said.served,
                   'since', extract(epoch from said.paused_at), 'by', said.paused_by,
                   'limit', said.worker_limit) order by said.node)::text
        from pgtasks.queues as said where said.queue = named.queue),
       known.concurrency, known.rate, known.period
from named
left join pgtasks.limits as known on known.name = 'queue:' || named.queue
order by named.queue
