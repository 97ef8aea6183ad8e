drop view pgtasks.all_jobs;

create view pgtasks.all_jobs as
    select id, task_id, task, queue, state, priority, attempt, retries, max_attempts,
           crashes, lost, inserted_at, scheduled_at, attempted_at,
           null::timestamptz as finished_at, expires_at, worker,
           pgtasks.try_json(args) as args, pgtasks.try_json(kwargs) as kwargs,
           custom_state as status, pgtasks.try_json(custom_meta) as result,
           null::text as traceback, errors, meta, tags, root_id, parent_id, group_id, origin
    from pgtasks.jobs
    union all
    select id, task_id, task, queue, state, priority, attempt, retries, max_attempts,
           crashes, lost, inserted_at, scheduled_at, attempted_at,
           finished_at, expires_at, worker,
           pgtasks.try_json(args), pgtasks.try_json(kwargs),
           status, pgtasks.try_json(result),
           traceback, errors, meta, tags, root_id, parent_id, group_id, origin
    from pgtasks.finished_jobs;

comment on view pgtasks.all_jobs is 'Every job, waiting, running or over: the one table for people and reports.';
comment on column pgtasks.all_jobs.id is 'Order of insertion.';
comment on column pgtasks.all_jobs.task_id is 'The id that delay() returns; any string.';
comment on column pgtasks.all_jobs.task is 'Name of the task.';
comment on column pgtasks.all_jobs.state is
    'suspended, scheduled, available, executing, retryable; completed, discarded, cancelled.';
comment on column pgtasks.all_jobs.priority is '0 runs first.';
comment on column pgtasks.all_jobs.attempt is 'How often it was started; a snooze gives its attempt back.';
comment on column pgtasks.all_jobs.retries is 'How often the task asked to be retried.';
comment on column pgtasks.all_jobs.crashes is 'How often the process running it died.';
comment on column pgtasks.all_jobs.lost is 'How often the worker holding it vanished.';
comment on column pgtasks.all_jobs.scheduled_at is 'When it is or was due.';
comment on column pgtasks.all_jobs.attempted_at is 'When it was claimed last.';
comment on column pgtasks.all_jobs.finished_at is 'When it ended; null while it has not.';
comment on column pgtasks.all_jobs.worker is 'Id of the worker that holds or held it.';
comment on column pgtasks.all_jobs.args is 'Positional arguments, null where they are not JSON.';
comment on column pgtasks.all_jobs.kwargs is 'Keyword arguments, null where they are not JSON.';
comment on column pgtasks.all_jobs.status is 'Celery''s state where it is not the usual one.';
comment on column pgtasks.all_jobs.result is 'Result, exception or progress, null where it is not JSON.';
comment on column pgtasks.all_jobs.errors is 'Failed attempts: attempt, at, kind, message, traceback, worker.';
comment on column pgtasks.all_jobs.meta is 'The application''s own metadata.';
comment on column pgtasks.all_jobs.tags is 'The application''s own labels.';
comment on column pgtasks.all_jobs.origin is 'Process that inserted it, pid@host.';

drop index pgtasks.finished_jobs_members;
alter table pgtasks.finished_jobs drop column chord;
drop index pgtasks.jobs_awaits;
drop index pgtasks.jobs_chord;
alter table pgtasks.jobs
    drop column expires_in, drop column delay, drop column awaits, drop column chord;
drop table pgtasks.saved_groups;
drop table pgtasks.chords;
