--! needs 14
-- Events: what workers and clients tell of tasks while somebody listens.
--
-- A row is a bundle of events, so that thousands of them a second are a few rows. They are
-- kept for a minute at most, and only until all who listen have read them.

-- Not an identity column: with an unlogged table its sequence would begin anew after a
-- crash of the server, and whoever has read further would hear nothing for a long time.
create sequence pgtasks.event_ids;

-- Unlogged: news of what happens now is worth no write-ahead log, and after a crash of the
-- server it is old.
create unlogged table pgtasks.events (
    id              bigint primary key default nextval('pgtasks.event_ids'),
    inserted_at     timestamptz not null default clock_timestamp(),
    bundle          text not null
) with (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_cost_delay = 0
);
alter sequence pgtasks.event_ids owned by pgtasks.events.id;

-- They live for seconds: compressing them would cost more than it saves.
alter table pgtasks.events alter bundle set storage external;

comment on table pgtasks.events is 'What workers and clients told lately, in bundles.';

create unlogged table pgtasks.event_receivers (
    id              uuid primary key,
    expires_at      timestamptz not null,
    -- Bundles up to here have been read.
    position        bigint not null,
    name            text not null
);

comment on table pgtasks.event_receivers is 'Who listens to events; with nobody, none are kept.';
