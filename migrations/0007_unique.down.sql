update pgtasks.jobs set unique_key = null where unique_key is not null;
create unique index jobs_unique on pgtasks.jobs (unique_key) where unique_key is not null;
drop table pgtasks.parked_jobs;
drop table pgtasks.turns;
drop table pgtasks.unique_keys;
