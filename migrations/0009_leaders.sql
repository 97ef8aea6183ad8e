--! no-transaction
--! needs 14
-- Leaders, what the plugins find out, and an order in which old jobs are pruned.
--
-- Who leads is a row with a term (R21). It is never deleted: terms only go up, and whatever
-- a leader of an old term still sends is recognised by it.
create table if not exists pgtasks.leaders (
    office          text primary key,
    term            bigint not null check (term > 0),
    holder          uuid not null,
    node            text not null,
    since           timestamptz not null default clock_timestamp(),
    expires_at      timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);
comment on table pgtasks.leaders is 'Who does what only one may do, until when, and for which time.';
comment on column pgtasks.leaders.office is 'What there is to be led: plugins, beat …';
comment on column pgtasks.leaders.term is 'Counts the elections; what carries an old one does nothing.';
comment on column pgtasks.leaders.holder is 'Id of the worker, or of another process, that leads.';
comment on column pgtasks.leaders.node is 'Its name.';
-- The newest of each kind only. Unlogged: after a crash of the server it is counted anew.
create unlogged table if not exists pgtasks.metrics (
    name            text primary key,
    taken_at        timestamptz not null default clock_timestamp(),
    document        jsonb not null
);
comment on table pgtasks.metrics is 'What the plugin metrics counted last.';
-- By block ranges the old jobs were found for nothing as long as pages held jobs of one
-- time. Where pruned ones leave room that newer ones take, every range reaches back to the
-- beginning, and each look reads the whole table.
drop index concurrently if exists pgtasks.finished_jobs_finished;
create index concurrently finished_jobs_finished on pgtasks.finished_jobs (finished_at);
drop index concurrently if exists pgtasks.finished_jobs_age;
