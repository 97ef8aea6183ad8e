-- name: bookkeeping
create table if not exists pgtasks.migrations (
    version    integer primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default clock_timestamp(),
    breaking   boolean not null default false
)

-- name: applied
select version, name, checksum, breaking
from pgtasks.migrations
order by version

-- name: record
insert into pgtasks.migrations (version, name, checksum, breaking)
values (%(version)s::integer, %(name)s::text, %(checksum)s::text, %(breaking)s::boolean)

-- name: forget
delete from pgtasks.migrations
where version = %(version)s::integer

-- name: lock
-- Tried, not waited for: a statement that waits holds a snapshot, and `create index
-- concurrently` in the process that we wait for would wait for that snapshot.
-- By transaction, not by session: behind a pooler a session's lock outlives its owner.
select pg_try_advisory_xact_lock(hashtext('pgtasks.migrations')::bigint)

-- name: local_settings
select set_config('lock_timeout', '2s', true),
       set_config('statement_timeout', '0', true),
       set_config('search_path', %(search_path)s::text, true)

-- name: schema_exists
select to_regnamespace(%(schema)s::text) is not null
