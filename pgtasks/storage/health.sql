-- name: ping
select 1

-- name: server
select current_setting('server_version'),
       current_setting('server_version_num')::int,
       current_database()::text,
       current_user::text,
       pg_is_in_recovery(),
       current_setting('fsync') = 'on',
       current_setting('full_page_writes') = 'on',
       current_setting('synchronous_commit'),
       current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int,
       -- pg_stat_activity hides much from ordinary roles, but not that a session exists.
       (select count(*)::int from pg_stat_activity where backend_type = 'client backend'),
       extract(epoch from clock_timestamp())::float8

-- name: workers
-- The living, and those declared dead within a day; who signed off is no news.
select name, hostname, pid, machine, process_started, queues, pool, concurrency, version,
       extract(epoch from clock_timestamp() - expires_at)::float8 + lease as silence,
       lease, dead_at is not null as dead
from pgtasks.workers
where stopped_at is null
  and (dead_at is null or dead_at > clock_timestamp() - interval '1 day')
order by dead_at is not null, name, started_at

-- name: backlog
-- By queue: jobs that could run now, jobs for later, running ones, and for how long the
-- oldest that could run has been waiting.
select queue,
       count(*) filter (where state = 'available'),
       count(*) filter (where state in ('scheduled', 'retryable', 'suspended')),
       count(*) filter (where state = 'executing'),
       extract(epoch from clock_timestamp()
               - min(scheduled_at) filter (where state = 'available'
                                            and scheduled_at > '-infinity' and scheduled_at < 'infinity'))::float8
from pgtasks.jobs
group by queue
order by queue

-- name: overdue
-- Jobs that are due and that nobody has made available: no worker stages.
select count(*), extract(epoch from clock_timestamp() - min(scheduled_at))::float8
from pgtasks.jobs
where state in ('scheduled', 'retryable')
  and scheduled_at < (select clock_timestamp() - interval '10 seconds') and scheduled_at > '-infinity'

-- name: horizon
-- Whatever holds the oldest snapshot keeps dead rows from being vacuumed: a session, or a
-- transaction that was prepared and forgotten. Of other roles' sessions only members of
-- pg_read_all_stats are told.
select what, age
from (
    select 'session ' || pid || coalesce(' of ' || usename, '')
               || coalesce(' (' || nullif(application_name, '') || ', ' || state || ')', ''),
           extract(epoch from clock_timestamp() - xact_start)::float8
    from pg_stat_activity
    where (backend_xmin is not null or backend_xid is not null)
      and xact_start is not null
      and backend_type = 'client backend'
      and datname = current_database()
      and pid <> pg_backend_pid()
    union all
    select 'prepared transaction ' || gid, extract(epoch from clock_timestamp() - prepared)::float8
    from pg_prepared_xacts
    where database = current_database()
) as holder (what, age)
order by age desc
limit 1

-- name: dead_rows
select coalesce(sum(n_live_tup), 0)::bigint,
       coalesce(sum(n_dead_tup), 0)::bigint,
       extract(epoch from clock_timestamp() - max(greatest(last_vacuum, last_autovacuum)))::float8
from pg_stat_all_tables
where relid = to_regclass('pgtasks.jobs')
