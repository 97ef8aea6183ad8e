-- What waited for a limit runs without one.
update pgtasks.jobs set state = 'available' where state = 'suspended' and parked <> '';
drop index pgtasks.jobs_parked;
drop index pgtasks.jobs_trying;
alter table pgtasks.jobs drop column parked, drop column limits;
drop table pgtasks.places;
drop table pgtasks.gates;
drop table pgtasks.limits;
drop table pgtasks.queues;
