--! no-transaction
drop index concurrently if exists pgtasks.finished_jobs_age;
create index concurrently finished_jobs_age on pgtasks.finished_jobs using brin (finished_at) with (pages_per_range = 32);
drop index concurrently if exists pgtasks.finished_jobs_finished;
drop table if exists pgtasks.metrics;
drop table if exists pgtasks.leaders;
