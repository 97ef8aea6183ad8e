--! needs 14
-- Jobs that people hold, and what history must know to run a job once more.

-- The state that a job is going to have when it is released; null unless somebody holds it.
-- The body of a chord that still waits for members says 'suspended' here, and is told by
-- the end of the last one what else it will be.
alter table pgtasks.jobs add column held pgtasks.job_state;

-- The body of a chord that is run once more reads the results of the members again.
alter table pgtasks.finished_jobs add column awaits text;

-- And one with limits keeps them.
alter table pgtasks.finished_jobs add column limits text[];

create function pgtasks.with_snooze(meta jsonb) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- What the application has put there itself is left alone: a text, a list, 300 MB.
    select case when jsonb_typeof(meta) <> 'object' or pg_column_size(meta) > 262144 then meta
                when not meta ? 'snoozed' then meta || '{"snoozed": 1}'
                when jsonb_typeof(meta -> 'snoozed') = 'number'
                then meta || jsonb_build_object('snoozed', (meta ->> 'snoozed')::numeric + 1)
                else meta end
$$;
comment on function pgtasks.with_snooze is 'The metadata of a job with one more snooze counted in them.';
