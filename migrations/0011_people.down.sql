alter table pgtasks.finished_jobs drop column awaits, drop column limits;
drop function pgtasks.with_snooze(jsonb);
update pgtasks.jobs set state = held where held is not null;
alter table pgtasks.jobs drop column held;
