-- fragments of: leaders.sql

-- name: lapsed
-- Whether nobody has led for a while: then who is elected next begins something, and goes on
-- with nothing.
select coalesce((select expires_at < clock_timestamp() - make_interval(secs => %(seconds)s::float8)
                 from pgtasks.leaders
                 where office = %(office)s::text), true)

-- name: look
-- The leader's question, by which it renews its term: what time it is, whether entries have
-- changed, and whether a program with a scheduler of its own sends the schedule.
with
-- include: fence
select extract(epoch from clock_timestamp())::float8,
       exists (select from leader),
       (select count(*) || ' ' || coalesce(sum(revision), 0)
        from pgtasks.crons where app = %(app)s::text),
       coalesce((select extract(epoch from clock_timestamp() - expires_at)::float8
                 from pgtasks.leaders
                 where office = %(other)s::text), 'infinity')

-- name: in_table
-- Whether anybody has made entries by hand.
select exists (select from pgtasks.crons where app = %(app)s::text and source = 'table')

-- name: rename
-- An entry that a program has under a new name, and under the old one no longer, is the same
-- entry: its last tick goes along. Only what nobody else sends is taken, unless a new release
-- begins.
with
-- include: fence
,
given as materialized (
    select * from json_to_recordset(%(pairs)s::json) as pair (id bigint, name text)
)
update pgtasks.crons as cron
set name = given.name, revision = cron.revision + 1, updated_at = clock_timestamp()
from given
where cron.id = given.id and cron.app = %(app)s::text and cron.source = 'code'
  and exists (select from leader)
  and (%(fresh)s::boolean or cron.office = %(office)s::text
       or not exists (select from pgtasks.leaders as other
                      where other.office = cron.office
                        and other.expires_at > clock_timestamp()))
  and not exists (select from pgtasks.crons as known
                  where known.app = cron.app and known.name = given.name)
returning cron.name

-- name: claim
-- Entries of a program become its leader's: those that nobody has, those whose leader is
-- gone and, where a new release begins, all of them (the newest time-table counts). Where the
-- hours have changed, what the old ones have missed is no business of the new ones.
with
-- include: fence
,
given as materialized (
    select *
    from json_to_recordset(%(entries)s::json) as entry (
        name text, identity text, task text, schedule text, timezone text, catch_up text,
        overlap text, jitter float8, deadline float8, by_hours boolean
    )
)
insert into pgtasks.crons as cron (
    app, name, source, office, identity, task, schedule, timezone, catch_up, overlap, jitter,
    deadline, by_hours
)
select %(app)s::text, name, 'code', %(office)s::text, identity, task, schedule, timezone,
       catch_up, overlap, jitter, deadline, by_hours
from given
where exists (select from leader)
order by name
on conflict (app, name) do update
set office = excluded.office, identity = excluded.identity, task = excluded.task,
    schedule = excluded.schedule, timezone = excluded.timezone, catch_up = excluded.catch_up,
    overlap = excluded.overlap, jitter = excluded.jitter, deadline = excluded.deadline,
    by_hours = excluded.by_hours,
    last_tick = case when (cron.schedule, cron.timezone)
                          is distinct from (excluded.schedule, excluded.timezone)
                      and cron.schedule <> '' and excluded.by_hours
                     then greatest(cron.last_tick, clock_timestamp())
                     else cron.last_tick end,
    revision = cron.revision + 1, updated_at = clock_timestamp()
where cron.source = 'code'
  and (cron.office, cron.identity) is distinct from (excluded.office, excluded.identity)
  and (%(fresh)s::boolean or cron.office is null or cron.office = excluded.office
       or not exists (select from pgtasks.leaders as other
                      where other.office = cron.office
                        and other.expires_at > clock_timestamp()))
returning cron.name

-- name: entries
-- What the entries of an application are.
select id, name, source, task, schedule, timezone, args, kwargs, options, catch_up, overlap,
       jitter, deadline, identity, office, last_tick::text, extract(epoch from last_tick)::float8,
       last_task_id, runs, error, extract(epoch from paused_at)::float8, paused_by, revision,
       exists (select from pgtasks.leaders as other
               where other.office = crons.office and other.expires_at > clock_timestamp())
from pgtasks.crons
where app = %(app)s::text
order by name

-- name: grant
-- Ticks become the leader's to send, in the transaction that inserts their jobs: each once,
-- whoever else believes to lead (R21, R23). An entry goes on from the tick that the leader
-- knows to be its last, and only while it is not paused, is ours, and the tick has come by
-- the clock of the database. Where it must not overlap, the job before must be over.
with
-- include: fence
,
asked as materialized (
    select *
    from json_to_recordset(%(entries)s::json) as entry (
        id bigint, follows timestamptz, last timestamptz, runs integer, task_id text, error text,
        ticks json
    )
),
ours as materialized (
    -- Each by its key, whatever the planner believes of a table that was empty once; and in
    -- the order of the ids, by which who sends has sorted them (R8).
    select cron.id, asked.last, asked.runs, asked.task_id, asked.error, asked.ticks,
           cron.entry,
           cron.overlap = 'skip'
               and exists (select from pgtasks.jobs as job
                           where job.task_id = cron.last_task_id offset 0) as busy
    from asked
    cross join lateral (
        select known.id, known.overlap, known.last_task_id,
               case when known.app = '' then known.name
                    else known.app || ' ' || known.name end as entry
        from pgtasks.crons as known
        where known.id = asked.id
          and known.last_tick = asked.follows
          and known.paused_at is null
          and (known.source = 'table' or known.office = %(office)s::text)
          and asked.last <= clock_timestamp() + interval '20 ms'
        offset 0
        for update
    ) as cron
    where exists (select from leader)
),
noted as (
    insert into pgtasks.cron_ticks (entry, tick, task_id)
    select ours.entry, tick.tick, case when ours.busy then null else tick.task_id end
    from ours
    cross join lateral json_to_recordset(ours.ticks) as tick (tick timestamptz, task_id text)
    order by ours.entry, tick.tick
    on conflict do nothing
    returning task_id
),
counted as (
    update pgtasks.crons as cron
    set last_tick = ours.last,
        runs = cron.runs + case when ours.busy then 0 else ours.runs end,
        last_task_id = case when ours.busy or ours.task_id is null then cron.last_task_id
                            else ours.task_id end,
        error = ours.error
    from ours
    where cron.id = any(array(select id from ours)) and cron.id = ours.id
    returning cron.id, ours.busy, cron.last_tick::text as last_tick
)
select id, busy, last_tick, null as task_id from counted
union all
select null, null, null, task_id from noted where task_id is not null

-- name: add
-- An entry that somebody makes by hand.
with added as (
    insert into pgtasks.crons (
        app, name, source, task, schedule, timezone, args, kwargs, options, catch_up, overlap,
        jitter, deadline, paused_at, paused_by
    )
    values (
        %(app)s::text, %(name)s::text, 'table', %(task)s::text, %(schedule)s::text,
        %(timezone)s::text, %(args)s::text, %(kwargs)s::text, %(options)s::text,
        %(catch_up)s::text, %(overlap)s::text, %(jitter)s::float8, %(deadline)s::float8,
        case when %(paused)s::boolean then clock_timestamp() end, %(by)s::text
    )
    on conflict do nothing
    returning id
)
select id, pg_notify('pgtasks.crons', %(app)s::text)::text from added

-- name: update
-- Where its hours change, it counts from now.
with changed as (
    update pgtasks.crons
    set task = %(task)s::text, timezone = %(timezone)s::text,
        args = %(args)s::text, kwargs = %(kwargs)s::text, options = %(options)s::text,
        catch_up = %(catch_up)s::text, overlap = %(overlap)s::text,
        jitter = %(jitter)s::float8, deadline = %(deadline)s::float8,
        last_tick = case when (schedule, timezone)
                              is distinct from (%(schedule)s::text, %(timezone)s::text)
                         then greatest(last_tick, clock_timestamp()) else last_tick end,
        schedule = %(schedule)s::text,
        revision = revision + 1, updated_at = clock_timestamp()
    where app = %(app)s::text and name = %(name)s::text and source = 'table'
    returning id
)
select id, pg_notify('pgtasks.crons', %(app)s::text)::text from changed

-- name: delete
with gone as (
    delete from pgtasks.crons
    where app = %(app)s::text and name = %(name)s::text and source = 'table'
    returning id
)
select id, pg_notify('pgtasks.crons', %(app)s::text)::text from gone

-- name: pause
-- Also of an entry that has no row yet, as no leader has begun with it.
with said as (
    insert into pgtasks.crons as cron (app, name, source, paused_at, paused_by)
    select %(app)s::text, %(name)s::text, 'code', clock_timestamp(), %(by)s::text
    where %(known)s::boolean
       or exists (select from pgtasks.crons as known
                  where known.app = %(app)s::text and known.name = %(name)s::text)
    on conflict (app, name) do update
    set paused_at = coalesce(cron.paused_at, excluded.paused_at),
        paused_by = case when cron.paused_at is null then excluded.paused_by
                         else cron.paused_by end,
        revision = cron.revision + 1
    returning id
)
select id, pg_notify('pgtasks.crons', %(app)s::text)::text from said

-- name: resume
-- What it would have done meanwhile was not wanted: it counts from now.
with said as (
    update pgtasks.crons
    set last_tick = case when paused_at is null then last_tick
                         else greatest(last_tick, clock_timestamp()) end,
        paused_at = null, paused_by = null, revision = revision + 1
    where app = %(app)s::text and name = %(name)s::text
    returning id
)
select id, pg_notify('pgtasks.crons', %(app)s::text)::text from said

-- name: adopt
-- What another scheduler has sent before. Only of entries that have sent nothing here yet:
-- what has gone on since is what counts.
with adopted as (
    insert into pgtasks.crons as cron (app, name, source, last_tick, runs)
    select %(app)s::text, given.name, 'code', given.last, given.runs
    from json_to_recordset(%(runs)s::json) as given (name text, last timestamptz, runs bigint)
    where given.last <= clock_timestamp()
    order by given.name
    on conflict (app, name) do update
    set last_tick = excluded.last_tick, runs = excluded.runs, revision = cron.revision + 1
    where cron.source = 'code' and cron.runs = 0 and cron.paused_at is null
      and cron.last_tick > excluded.last_tick
    returning name
)
select name, pg_notify('pgtasks.crons', %(app)s::text)::text from adopted

-- name: forget
-- Entries that no program has had for a week, and the offices of their leaders. Whoever has
-- them again begins anew.
with
-- include: fence
,
gone as (
    delete from pgtasks.crons as cron
    where cron.app = %(app)s::text and cron.source = 'code' and cron.paused_at is null
      and cron.office <> %(office)s::text
      and exists (select from leader)
      and not exists (select from pgtasks.leaders as other
                      where other.office = cron.office
                        and other.expires_at > clock_timestamp() - interval '7 days')
    returning cron.id
),
vacant as (
    delete from pgtasks.leaders as other
    where other.office like %(pattern)s::text and other.office <> %(office)s::text
      and other.expires_at < clock_timestamp() - interval '8 days'
      and exists (select from leader)
    returning other.office
)
select (select count(*) from gone) + (select count(*) from vacant)
