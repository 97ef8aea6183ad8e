-- fragments of: leaders.sql

-- name: bloated
-- Our indexes with what they take, and what they would take if they were made anew: an
-- entry is as wide as its columns are on average, with 16 bytes for the rest, on pages that
-- are filled to nine tenths. Where nobody has analyzed yet, nothing is known.
select class.relname::text, pg_get_userbyid(class.relowner)::text,
       pg_has_role(class.relowner, 'usage'),
       class.relpages::bigint * current_setting('block_size')::bigint as size,
       (class.reltuples * (16 + coalesce(sum(stats.avg_width), 8)) / 0.9)::bigint + 16384 as needed
from pg_index as index
join pg_class as class on class.oid = index.indexrelid
join pg_class as home on home.oid = index.indrelid
join pg_namespace as schema on schema.oid = home.relnamespace
join pg_am as method on method.oid = class.relam and method.amname = 'btree'
left join pg_attribute as attribute
       on attribute.attrelid = home.oid and attribute.attnum = any(index.indkey)
left join pg_stats as stats
       on stats.schemaname = schema.nspname and stats.tablename = home.relname
      and stats.attname = attribute.attname
where schema.nspname = %(schema)s::text
  and index.indisvalid
  and home.relpersistence = 'p'
  and class.reltuples >= 0
  and class.relpages::bigint * current_setting('block_size')::bigint >= %(least)s::bigint
group by class.oid, class.relname, class.relowner, class.relpages, class.reltuples
having class.relpages::bigint * current_setting('block_size')::bigint
       > %(ratio)s::float8
         * ((class.reltuples * (16 + coalesce(sum(stats.avg_width), 8)) / 0.9) + 16384)
order by size desc

-- name: invalid
-- What a `reindex concurrently` leaves behind that was broken off. None of those that are
-- being made: by their names, and only where nobody makes an index on that table.
select class.relname::text, pg_get_userbyid(class.relowner)::text, pg_has_role(class.relowner, 'usage'),
       pg_relation_size(class.oid), 0::bigint
from pg_index as index
join pg_class as class on class.oid = index.indexrelid
join pg_namespace as schema on schema.oid = class.relnamespace
where schema.nspname = %(schema)s::text
  and not index.indisvalid
  and class.relname ~ '_cc(new|old)[0-9]*$'
  and not exists (select from pg_stat_progress_create_index as under_way
                  where under_way.relid = index.indrelid)
order by class.relname

-- name: counts
-- For the metrics: the unfinished jobs by queue and state, how long the oldest has been due,
-- and how many have ended in the seconds before now. Dates that no clock reaches are of none.
select queue, state::text, count(*),
       greatest(0, extract(epoch from (select clock_timestamp()))::float8
                   - extract(epoch from min(scheduled_at)
                                        filter (where scheduled_at > '-infinity'
                                                and scheduled_at < 'infinity'))::float8)
from pgtasks.jobs
group by queue, state
union all
select queue, state::text, count(*), null
from pgtasks.finished_jobs
where finished_at > (select clock_timestamp() - make_interval(secs => %(window)s::float8))
group by queue, state
order by 1, 2

-- name: workers
select name, queues, concurrency, extract(epoch from started_at)::float8
from pgtasks.workers
where dead_at is null and stopped_at is null and expires_at > clock_timestamp()
order by name

-- name: keep
with
-- include: fence
insert into pgtasks.metrics as kept (name, taken_at, document)
select %(name)s::text, clock_timestamp(), %(document)s::text::jsonb
from leader
on conflict (name) do update set taken_at = excluded.taken_at, document = excluded.document
returning name

-- name: kept
select document::text, extract(epoch from taken_at)::float8,
       extract(epoch from clock_timestamp())::float8 - extract(epoch from taken_at)::float8
from pgtasks.metrics
where name = %(name)s::text
