-- fragments of: jobs.sql

-- fragment: room
-- How many more a gate lets through, by its rule `known`; null without one. What was spent
-- counts until a whole period has passed since the end of the hundredth part of it in which
-- it was: never too many within any period, and a hundredth late at most. After a jump of
-- the clock, what seems to lie ahead of us does not count.
    least(known.concurrency - gate.running,
          known.rate - (select coalesce(sum(past.jobs), 0)
                        from unnest(gate.spent_at, gate.spent) as past (at, jobs)
                        where past.at > clock.now - known.period
                          and past.at < clock.now + known.period))::integer

-- name: fetch
-- The claim where there are limits: what `jobs.fetch` says, of plain jobs and of those that
-- may be tried, in the order in which they would run without limits. Then
-- * the gates that they need are locked, in order, but those that others hold are passed
--   over: nobody waits for a limit, and whoever needed one of them is asked again;
-- * who finds room in all of its gates is claimed, counted there and given a place;
-- * who finds a gate full goes into its line and is not looked at again until that gate has
--   room: `freed` names such gates, and how many may be tried from the front of their lines.
--   Not what this statement saw but what the one that freed it left behind counts; so that is
--   committed before this begins.
-- A gate that nobody has needed before is made here, for the next time.
-- What a line has waiting in queues of other workers is made to be tried by those.
with clock as materialized (
    select extract(epoch from clock_timestamp())::float8 as now
),
wanted as materialized (
    select asked.*, case when said.limited then 'queue:' || asked.queue end as gate
    from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(dues)s::timestamptz[], %(ids)s::bigint[],
                %(rooms)s::integer[])
        as asked (queue, priority, scheduled_at, id, room)
    left join pgtasks.queues as said on said.queue = asked.queue and said.node = ''
    where exists (select from pgtasks.workers
                  where workers.id = %(worker)s::uuid and dead_at is null and stopped_at is null)
      and not exists (select from pgtasks.queues as word
                      where word.queue in (asked.queue, '*')
                        and word.node in ('', %(node)s::text)
                        and word.paused
                        and not word.but && array[asked.queue, chr(31) || %(node)s::text,
                                                  asked.queue || chr(31) || %(node)s::text])
),
plain as materialized (
    select job.*, array_remove(array[wanted.gate], null) as gates, wanted.room, ''::text as line
    from wanted
    cross join lateral (
        select jobs.id, jobs.queue, jobs.priority, jobs.scheduled_at
        from pgtasks.jobs
        where jobs.state = 'available'
          and jobs.parked is null
          and jobs.queue = wanted.queue
          and (jobs.priority, jobs.scheduled_at, jobs.id) > (wanted.priority, wanted.scheduled_at, wanted.id)
        order by jobs.priority, jobs.scheduled_at, jobs.id
        limit least(wanted.room, %(demand)s)
        for update skip locked
    ) as job
),
trying as materialized (
    select job.id, job.queue, job.priority, job.scheduled_at,
           array_remove(job.limits || wanted.gate, null) as gates, wanted.room, '?'::text as line
    from wanted
    cross join lateral (
        select jobs.id, jobs.queue, jobs.priority, jobs.scheduled_at, jobs.limits
        from pgtasks.jobs
        where jobs.parked is not null
          and (jobs.state = 'available' or (jobs.state = 'suspended' and jobs.parked = '?'))
          and jobs.queue = wanted.queue
        order by jobs.priority, jobs.scheduled_at, jobs.id
        limit %(demand)s + %(ahead)s
        for update skip locked
    ) as job
),
freed as materialized (
    select told.gate, told.jobs, gate.queues
    from unnest(%(freed)s::text[], %(freed_jobs)s::integer[]) as told (gate, jobs)
    join pgtasks.gates as gate on gate.name = told.gate
),
fronts as materialized (
    select job.id, job.queue, job.priority, job.scheduled_at,
           array_remove(job.limits || wanted.gate, null) as gates,
           coalesce(wanted.room, 0) as room, freed.gate as line
    from freed
    cross join lateral unnest(freed.queues) as waiting (queue)
    left join wanted on wanted.queue = waiting.queue
    cross join lateral (
        select jobs.id, jobs.queue, jobs.priority, jobs.scheduled_at, jobs.limits
        from pgtasks.jobs
        where jobs.state = 'suspended'
          and length(jobs.parked) > 1
          and jobs.parked = freed.gate
          and jobs.queue = waiting.queue
        order by jobs.priority, jobs.scheduled_at, jobs.id
        limit freed.jobs
        for update skip locked
    ) as job
    where wanted.queue is not null
       or not exists (select from pgtasks.queues as word
                      where word.queue in (waiting.queue, '*')
                        and word.node = ''
                        and word.paused
                        and not waiting.queue = any(word.but))
),
candidate as materialized (
    select id, queue, priority, scheduled_at, gates, room, line from plain
    union all
    select id, queue, priority, scheduled_at, gates, room, line from trying
    union all
    select id, queue, priority, scheduled_at, gates, room, line from fronts
),
needed as materialized (
    select candidate.id, needs.gate,
           row_number() over (partition by needs.gate
                              order by candidate.room = 0, candidate.priority,
                                       candidate.scheduled_at, candidate.id) as place
    from candidate
    cross join lateral unnest(candidate.gates) as needs (gate)
),
made as (
    insert into pgtasks.gates (name, limit_name)
    select missing.gate, split_part(missing.gate, chr(31), 1)
    from (select distinct needed.gate from needed) as missing
    where not exists (select from pgtasks.gates as gate where gate.name = missing.gate offset 0)
    order by missing.gate
    on conflict do nothing
    returning name
),
gate as materialized (
    select gate.name, gate.queues, gate.spent_at, gate.spent, known.rate, known.period,
           coalesce(
               -- include: room
               , 2147483647) as room,
           coalesce(known.concurrency - gate.running, 2147483647) as free
    from pgtasks.gates as gate
    left join pgtasks.limits as known on known.name = gate.limit_name
    cross join clock
    where gate.name = any(array(select needed.gate from needed union select freed.gate from freed))
    order by gate.name
    for update of gate skip locked
),
fitting as materialized (
    select candidate.*,
           row_number() over (partition by candidate.queue
                              order by candidate.priority, candidate.scheduled_at, candidate.id) as place
    from candidate
    left join (
        select needed.id, bool_and(gate.name is not null and needed.place <= gate.room) as all_open
        from needed
        left join gate on gate.name = needed.gate
        group by needed.id
    ) as looked on looked.id = candidate.id
    where candidate.room > 0 and coalesce(looked.all_open, true)
),
winner as materialized (
    select id, gates
    from fitting
    where place <= room
    order by priority, scheduled_at, id
    limit %(demand)s
),
taken as materialized (
    select takes.gate, count(*)::integer as jobs
    from winner
    cross join lateral unnest(winner.gates) as takes (gate)
    group by takes.gate
),
after as materialized (
    select gate.*, coalesce(taken.jobs, 0) as jobs, gate.room - coalesce(taken.jobs, 0) as left_over,
           gate.free - coalesce(taken.jobs, 0) > 0 and gate.room <= coalesce(taken.jobs, 0) as waits,
           coalesce(spending.at, '{}') as new_spent_at, coalesce(spending.jobs, '{}') as new_spent
    from gate
    left join taken on taken.gate = gate.name
    cross join clock
    cross join lateral (
        select array_agg(sums.at order by sums.at) as at, array_agg(sums.jobs order by sums.at) as jobs
        from (
            select past.at, sum(past.jobs)::integer as jobs
            from (
                select old.at, old.jobs
                from unnest(gate.spent_at, gate.spent) as old (at, jobs)
                where old.at > clock.now - gate.period and old.at < clock.now + gate.period
                union all
                select ceil(clock.now / gate.period * 100) * gate.period / 100, taken.jobs
                where taken.jobs > 0
            ) as past
            where gate.rate is not null
            group by past.at
        ) as sums
    ) as spending
),
loser as materialized (
    -- Into the line of the first gate that is full; from the front of a line, if none of its
    -- gates is, to those that may be tried.
    select candidate.id, candidate.queue, candidate.line,
           coalesce(
               (select after.name from after
                where after.name = any(candidate.gates)
                  and after.left_over <= 0
                  and not starts_with(after.name, 'queue:')
                order by after.name
                limit 1),
               '?') as parked
    from candidate
    where candidate.line <> ''
      and not exists (select from winner where winner.id = candidate.id)
),
moved as (
    update pgtasks.jobs as job
    set state = 'suspended', parked = loser.parked
    from loser
    where job.id = any(array(select id from loser where loser.parked <> loser.line))
      and job.id = loser.id
    returning job.queue, job.parked
),
newly as materialized (
    -- Where jobs of a gate come from, its line has them, too.
    select distinct needed.gate, candidate.queue
    from needed
    join candidate on candidate.id = needed.id
    join after on after.name = needed.gate
    where candidate.queue <> all(after.queues)
),
counted as (
    update pgtasks.gates as gate
    set running = gate.running + after.jobs,
        used_at = clock_timestamp(),
        spent_at = after.new_spent_at,
        spent = after.new_spent,
        queues = after.queues || array(select newly.queue from newly where newly.gate = after.name),
        free_at = case when after.waits
                       then to_timestamp(after.new_spent_at[1] + after.period) end
    from after
    where gate.name = after.name
      and (after.jobs > 0 or after.waits
           or exists (select from newly where newly.gate = after.name))
),
placed as (
    insert into pgtasks.places (job_id, gate, token)
    select winner.id, takes.gate, %(token)s::uuid
    from winner
    cross join lateral unnest(winner.gates) as takes (gate)
),
job as (
    update pgtasks.jobs as job
    set
-- include: taken
        , parked = case when job.parked is not null then '' end
    where job.id = any(array(select id from winner))
    returning job.*
),
told as (
    -- Gates to look at again: others held them, or who came from their lines found another
    -- one full.
    select 'again' as kind, freed.gate, freed.jobs, null::float8 as wait
    from freed
    where not exists (select from gate where gate.name = freed.gate)
    union all
    select 'again', loser.line, count(*)::integer, null
    from loser
    where length(loser.line) > 1 and loser.parked not in (loser.line, '?')
    group by loser.line
    union all
    -- Gates that let so many through again after so many seconds.
    select 'later', after.name, coalesce(after.new_spent[1], 1),
           after.new_spent_at[1] + after.period - clock.now
    from after
    cross join clock
    where after.waits
    union all
    select 'busy', null, 0, null
    where exists (select from needed
                  where not exists (select from gate where gate.name = needed.gate))
       or (select count(*) from trying) >= %(demand)s + %(ahead)s
    union all
    select 'woken', pg_notify('pgtasks.jobs', fresh.queue)::text, 0, null
    from (select distinct moved.queue from moved where moved.parked = '?') as fresh
    where exists (select from pgtasks.workers
                  where asleep and fresh.queue = any(queues) and workers.id <> %(worker)s::uuid)
)
select told.kind, told.gate, told.jobs, told.wait, job.limits is null,
       exists (select from winner where winner.id = job.id and winner.gates <> '{}'),
-- include: claimed
from told
full join job on false

-- name: release
-- Jobs are no longer held under the claim that gave them their places: those are free.
-- Without `ids` it is a sweep over all places, which can be repeated, and run by several at
-- once: a place is given back by whoever deletes its row (R15). That a job has lost the
-- token of a claim, or its worker, is for ever, so an old snapshot does no harm.
with gone as materialized (
    select place.job_id, place.gate, place.token
    from pgtasks.places as place
    where (%(ids)s::bigint[] is null or place.job_id = any(%(ids)s::bigint[]))
      and not exists (select from pgtasks.jobs as job
                      where job.id = place.job_id and job.claim_token = place.token
                        and job.worker is not null offset 0)
),
gate as materialized (
    select gate.name
    from pgtasks.gates as gate
    where gate.name = any(array(select gone.gate from gone))
    order by gate.name
    for update
),
freed as (
    delete from pgtasks.places as place
    using gone
    where place.job_id = any(array(select job_id from gone))
      and place.job_id = gone.job_id and place.gate = gone.gate and place.token = gone.token
      and (select count(*) from gate) >= 0
    returning place.gate
),
tally as (
    select freed.gate, count(*)::integer as jobs from freed group by freed.gate
)
update pgtasks.gates as gate
set running = gate.running - tally.jobs
from tally
where gate.name = tally.gate
returning gate.name, tally.jobs

-- name: lines
-- Gates in whose lines jobs wait though they have room: whoever was to look at them died, a
-- limit was raised, or a job came into the line at the very moment at which it became empty.
-- From name to name by the index, not through all that waits.
with recursive line (gate) as (
    (select jobs.parked from pgtasks.jobs
     where jobs.state = 'suspended' and length(jobs.parked) > 1 and jobs.parked > %(after)s::text
     order by jobs.parked limit 1)
    union all
    select (select jobs.parked from pgtasks.jobs
            where jobs.state = 'suspended' and length(jobs.parked) > 1 and jobs.parked > line.gate
            order by jobs.parked limit 1)
    from line
    where line.gate is not null
),
waiting as materialized (
    select line.gate from line where line.gate is not null limit %(limit)s
),
clock as materialized (
    select extract(epoch from clock_timestamp())::float8 as now
)
select waiting.gate, coalesce(
           -- include: room
           , 2147483647) as room
from waiting
left join pgtasks.gates as gate on gate.name = waiting.gate
left join pgtasks.limits as known on known.name = gate.limit_name
cross join clock
order by waiting.gate

-- name: tidy
-- Gates that nobody has gone through for an hour, or for two of their periods.
with idle as materialized (
    select gate.name
    from pgtasks.gates as gate
    left join pgtasks.limits as known on known.name = gate.limit_name
    where gate.running = 0
      and gate.used_at < clock_timestamp()
                         - greatest(make_interval(secs => 2 * coalesce(known.period, 0)), interval '1 hour')
      and not exists (select from pgtasks.jobs as job
                      where job.parked = gate.name and job.state = 'suspended'
                        and length(job.parked) > 1 offset 0)
    order by gate.name
    limit 1000
    for update of gate skip locked
)
delete from pgtasks.gates as gate
using idle
where gate.name = idle.name
returning gate.name

-- name: declare
-- What the code of tasks says, as workers start. What was said at run time stays.
insert into pgtasks.limits as known (name, concurrency, rate, period)
select document.name, document.concurrency, document.rate, document.period
from json_to_recordset(%(limits)s::json) as document (
    name text, concurrency integer, rate integer, period float8
)
order by document.name
on conflict (name) do update
set concurrency = excluded.concurrency, rate = excluded.rate, period = excluded.period
where not known.by_hand
  and (known.concurrency, known.rate, known.period)
      is distinct from (excluded.concurrency, excluded.rate, excluded.period)
returning name

-- name: set
-- What people say at run time; `queue` is whose limit it is, if it is one of a queue.
with known as (
    insert into pgtasks.limits (name, concurrency, rate, period, by_hand)
    values (%(name)s::text, %(concurrency)s::integer, %(rate)s::integer, %(period)s::float8, true)
    on conflict (name) do update
    set concurrency = excluded.concurrency, rate = excluded.rate, period = excluded.period,
        by_hand = true
),
said as (
    insert into pgtasks.queues (queue, limited)
    select %(queue)s::text, true
    where %(queue)s::text is not null
    on conflict (queue, node) do update set limited = true
),
made as (
    insert into pgtasks.gates (name, limit_name)
    select %(name)s::text, %(name)s::text
    where %(queue)s::text is not null
    on conflict do nothing
)
select pg_notify('pgtasks.queues', '')::text

-- name: occupy
-- Jobs that ran when their queue was given a limit count in it, too.
with gate as materialized (
    select gate.name from pgtasks.gates as gate where gate.name = 'queue:' || %(queue)s::text for update
),
placed as (
    insert into pgtasks.places (job_id, gate, token)
    select job.id, gate.name, job.claim_token
    from pgtasks.jobs as job
    cross join gate
    where job.state = 'executing' and job.queue = %(queue)s::text
    on conflict do nothing
    returning gate
)
update pgtasks.gates as gate
set running = gate.running + (select count(*)::integer from placed)
from (select name from gate) as locked
where gate.name = locked.name
returning gate.running

-- name: forget
-- No limit any more. The rule of a task stays, and lets everything through until a worker
-- starts that has one in its code: jobs with that limit may still come.
with gone as (
    update pgtasks.limits
    set concurrency = null, rate = null, period = null, by_hand = false
    where name = %(name)s::text and (concurrency is not null or rate is not null)
    returning name
),
said as (
    update pgtasks.queues
    set limited = false
    where queue = %(queue)s::text and node = ''
)
select pg_notify('pgtasks.queues', '')::text, (select count(*) from gone)

-- name: list
select name, concurrency, rate, period, by_hand,
       (select coalesce(sum(gate.running), 0) from pgtasks.gates as gate where gate.limit_name = limits.name),
       (select count(*) from pgtasks.gates as gate where gate.limit_name = limits.name)
from pgtasks.limits
where concurrency is not null or rate is not null
order by name
