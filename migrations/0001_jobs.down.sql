drop view pgtasks.all_jobs;
drop function pgtasks.try_json(text);
drop function pgtasks.with_error(jsonb, integer, text, text, text, uuid);
drop table pgtasks.finished_jobs;
drop table pgtasks.jobs;
drop type pgtasks.job_state;
