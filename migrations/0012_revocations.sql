-- What was revoked and has not come yet, or runs: each claim looks here, so that it holds
-- whatever becomes of the workers that were told.

create table pgtasks.revoked_tasks (
    task_id         text primary key,
    revoked_at      timestamptz not null default clock_timestamp(),
    -- By whom and why, for whoever looks at the job when it has come.
    reason          text,
    -- The exception, as results are kept, for whoever waits for one that has not come.
    result                  text,
    result_body             bytea,
    result_content_type     text
);

comment on table pgtasks.revoked_tasks is
    'Ids of tasks that shall not run, and that had not come or ran when they were revoked.';

create table pgtasks.revoked_stamps (
    header          text not null,
    -- JSON.
    stamp           text not null,
    revoked_at      timestamptz not null default clock_timestamp(),
    primary key (header, stamp)
);

comment on table pgtasks.revoked_stamps is 'Stamps of tasks that shall not run.';
